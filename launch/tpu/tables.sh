# What generations.tsv and types.tsv say. Sourced.

TABLES="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# table_field FILE KEY COLUMN: the cell of the row whose first cell is KEY; "-" is printed as nothing.
table_field() {
  awk -F '\t' -v key="$2" -v column="$3" '
    /^#/ { next }
    !header { for (i = 1; i <= NF; i++) place[$i] = i; header = 1; next }
    $1 == key { if ($place[column] != "-") print $place[column] }' "$TABLES/$1"
}

# known_types: every slice type, on one line.
known_types() {
  awk '/^#/ { next } !header { header = 1; next } { printf "%s%s", separator, $1; separator = " " }' "$TABLES/types.tsv"
}

generation_of() { printf '%s\n' "${1%%-*}"; }
generation_field() { table_field generations.tsv "$(generation_of "$1")" "$2"; }
accelerator_type() { printf '%s-%s\n' "$(generation_field "$1" accelerator_prefix)" "${1#*-}"; }
hosts_of() { table_field types.tsv "$1" hosts; }
topology_of() { table_field types.tsv "$1" topology; }

# chips_per_host TYPE: the chips that one worker of this very type has.
chips_per_host() { printf '%s\n' "$(( $(topology_of "$1" | tr x '*') / $(hosts_of "$1") ))"; }
