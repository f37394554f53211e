"""What a trained model is worth: exact scores on the scenes world, `results.json`, and the report with pictures."""
