"""LitServe tuned by hand: our engine and decoder, a worker process of one thread for each core, ZeroMQ between them."""

import os
import sys
from pathlib import Path

import litserve

from benchmarks.peers.clip import Answer, LabelScores, Pixels, model_folder
from benchmarks.peers.litserve_docs import WORKER_NAME
from deployments.clip.model import load_encoder
from deployments.clip.settings import ClipSettings
from serve_app.pictures.images import read_picture
from serve_app.settings import ImageSettings

MAX_BATCH_SIZE = 8


class TunedAnalysis(litserve.LitAPI):
    """Form in, analysis out."""

    def setup(self, device: str) -> None:
        """Load the model in a worker."""
        Path("/proc/self/comm").write_text(WORKER_NAME)
        self._scores, self._decoding = LabelScores(), ImageSettings()
        folder = model_folder()
        settings = ClipSettings(model=str(folder), device="cpu")
        self._encoder = load_encoder(folder, settings=settings, gpu_assigned=False, cores=1)
        self._prepared = self._encoder.prepare(self._scores.labels)

    def decode_request(self, request):
        """Decode the picture of a form."""
        return read_picture(request["image"].file.read(), self._decoding, self._encoder.input_size_px).pixels

    def batch(self, inputs: list[Pixels]) -> list[Pixels]:
        """Keep a list: the engine stacks it."""
        return inputs

    def predict(self, x: list[Pixels]) -> list[Answer]:
        """Analyse a batch."""
        return [self._scores.answer(row) for row in self._encoder.logits(self._encoder.features(x), self._prepared)]

    def unbatch(self, output: list[Answer]) -> list[Answer]:
        """Give one answer per picture."""
        return output

    def encode_response(self, output):
        """Answer JSON."""
        return output


if __name__ == "__main__":
    cores = len(os.sched_getaffinity(0))
    # Without a timeout a worker takes what waits: no pause at one caller, full batches at many.
    api = TunedAnalysis(max_batch_size=MAX_BATCH_SIZE, batch_timeout=0, api_path="/analyze")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=cores, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False)
