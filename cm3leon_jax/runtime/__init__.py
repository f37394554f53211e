"""What every part stands on: errors, files, checkpoints, metrics, the training loop, process set-up."""
