# What the job only reads lies on the worker's own disk: a gs:// folder named by one of these options is copied there first,
# and its option changed accordingly. A second copy brings only what differs. Sourced.

INPUT_OPTIONS="--prepared --text_tokenizer --image_tokenizer"

# bring_inputs: sets ARGUMENTS_HERE. Fails with 2 where there is nothing to copy, with 1 where copying fails.
bring_inputs() {
  local argument before="" folder files
  ARGUMENTS_HERE=()
  for argument in "${ARGUMENTS[@]}"; do
    if [ -n "$before" ] && [[ " $INPUT_OPTIONS " == *" $before "* ]] && is_bucket "$argument"; then
      folder="$CM3LEON_HOME/inputs/${argument#gs://}"
      files="$(storage_list "$argument")" || return 1
      [ -n "$files" ] || { echo "cm3leon: $before names $argument, where there is nothing; copy it there"; return 2; }
      mkdir -p "$folder"
      gcloud storage rsync --recursive --quiet "$argument" "$folder" || return 1
      argument="$folder"
    fi
    ARGUMENTS_HERE+=("$argument")
    before="$argument"
  done
}
