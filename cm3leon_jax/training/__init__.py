"""Training of the decoder: loss, optimiser, step, evaluation, and the run that ties them together."""
