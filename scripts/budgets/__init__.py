"""Count without a GPU what a kernel costs: its registers, and the instructions and loads of its loops."""
