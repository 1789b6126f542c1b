"""The stand-in that names things: what an ImageNet classifier sees, beside what the pixels measure."""
