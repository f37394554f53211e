"""Instructions: what an example of a fine-tuning task says, and which part of it is the answer (CM3Leon §4)."""
