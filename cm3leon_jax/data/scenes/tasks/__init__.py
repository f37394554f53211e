"""CM3Leon's fine-tuning tasks on the scenes: each scene -> an instruction, its pictures, and what is true of them."""
