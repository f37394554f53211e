"""What is drawn from a trained decoder: pictures from text, text from pictures, hidden parts.

Imports without TensorFlow.
"""
