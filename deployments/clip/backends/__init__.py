"""What runs CLIP's vision tower: one module for each runtime."""
