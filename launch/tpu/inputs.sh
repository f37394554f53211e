# What the job only reads lies on the worker's own disk: a gs:// folder named by one of these options, or in the binding of
# the folders of fine-tuning, is copied there first, and the argument changed accordingly. A second copy brings only what
# differs. Sourced.

INPUT_OPTIONS="--prepared --text_tokenizer --image_tokenizer"
INPUT_BINDING="--gin.FinetuningConfig.folders"

# bring_inputs: sets ARGUMENTS_HERE. Fails with 2 where there is nothing to copy, with 1 where copying fails.
bring_inputs() {
  local argument before="" url
  ARGUMENTS_HERE=()
  for argument in "${ARGUMENTS[@]}"; do
    if [[ "$argument" == --*=* && " $INPUT_OPTIONS " == *" ${argument%%=*} "* ]]; then # --prepared=gs://…
      before="${argument%%=*}"
      ARGUMENTS_HERE+=("$before")
      argument="${argument#*=}"
    fi
    if [ -n "$before" ] && [[ " $INPUT_OPTIONS " == *" $before "* ]] && is_bucket "$argument"; then
      bring "$before" "$argument" || return
      argument="$(place_here "$argument")"
    elif [[ "$argument" == "$INPUT_BINDING="* ]]; then
      while [[ "$argument" =~ gs://[^\'\"]+ ]]; do
        url="${BASH_REMATCH[0]}"
        bring "$INPUT_BINDING" "$url" || return
        argument="${argument%%"$url"*}$(place_here "$url")${argument#*"$url"}"
      done
    fi
    ARGUMENTS_HERE+=("$argument")
    before="$argument"
  done
}

# bring ARGUMENT URL: copies the folder that the argument names.
bring() {
  local files folder
  files="$(storage_list "$2")" || return 1
  [ -n "$files" ] || { echo "cm3leon: $1 names $2, where there is nothing; copy it there"; return 2; }
  folder="$(place_here "$2")"
  mkdir -p "$folder"
  gcloud storage rsync --recursive --quiet "$2" "$folder" || return 1
}

place_here() { printf '%s/inputs/%s\n' "$CM3LEON_HOME" "${1#gs://}"; }
