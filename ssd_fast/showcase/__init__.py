"""What `ssd-fast demo` shows: SSD's stages in pictures, and the kernels beside torch and torchvision in numbers."""
