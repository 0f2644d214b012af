"""What a kernel costs, counted without a GPU: its registers, and the instructions and loads of its loops."""
