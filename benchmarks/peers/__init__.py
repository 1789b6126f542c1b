"""Other ways to serve the same analysis, each as a developer would write it from that tool's documentation.

All but infinity answer `POST` of a form with the file `image` by the same JSON: three labels per category of the
default label file. The model's folder comes in the environment variable `BENCHMARK_MODEL`, the port on the command
line.
"""
