"""LitServe as its documentation teaches it: a `LitAPI` with batching, one worker, torch."""

import sys
from pathlib import Path

import litserve

from benchmarks.peers.clip import Answer, Pixels, TorchClip, decode, model_folder

MAX_BATCH_SIZE = 16
BATCH_TIMEOUT_S = 0.0
WORKER_NAME = "model-worker"
"""Lets the benchmark tell the worker's CPU time from the web server's."""


class Analysis(litserve.LitAPI):
    """Form in, analysis out."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        Path("/proc/self/comm").write_text(WORKER_NAME)
        self._clip = TorchClip(model_folder())

    def decode_request(self, request):
        """Decode the picture of a form."""
        return decode(request["image"].file.read())

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        """Keep a list: the model stacks it."""
        return inputs

    def predict(self, x: list[Pixels]) -> list[Answer]:
        """Analyse a batch."""
        return self._clip.analyse(x)

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """Give one answer per picture."""
        return output

    def encode_response(self, output):
        """Answer JSON."""
        return output


if __name__ == "__main__":
    api = Analysis(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S, api_path="/analyze")
    server = litserve.LitServer(api, accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
