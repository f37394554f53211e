"""The decoder as Hugging Face's OPT (`OPTForCausalLM` without biases and LayerNorm parameters: the same function)."""
