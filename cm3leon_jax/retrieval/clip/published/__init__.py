"""CLIPs that others trained, OpenAI's above all, as retrievers: CM3Leon §2.1 uses ViT-B/32 and leaves it as it is."""
