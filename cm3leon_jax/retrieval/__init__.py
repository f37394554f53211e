"""What is retrieved: CLIP embeds documents, the memory bank searches them, the selection rules choose among them."""
