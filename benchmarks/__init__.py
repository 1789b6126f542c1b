"""Each prints figures that the documents quote."""
