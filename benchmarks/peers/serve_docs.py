"""Ray Serve as its documentation teaches it: a FastAPI ingress, a model deployment behind a handle, `@serve.batch`.

As in its examples for pictures, the ingress hands on what it got and the model's replica does the work.
"""

from typing import Annotated, Any

from fastapi import FastAPI, File, UploadFile
from ray import serve
from ray.serve.handle import DeploymentHandle

from benchmarks.peers.clip import Answer, TorchClip, decode, model_folder

MAX_BATCH_SIZE = 16
MAX_ONGOING_REQUESTS = 64
"""Serve's default of 5 would never fill a batch."""

api = FastAPI()


@serve.deployment(max_ongoing_requests=MAX_ONGOING_REQUESTS)
class Model:
    """The model, and what it reads pictures with."""

    def __init__(self) -> None:
        self._clip = TorchClip(model_folder())

    @serve.batch(max_batch_size=MAX_BATCH_SIZE)
    async def analyse(self, uploads: list[bytes]) -> list[Answer]:
        """Analyse what Serve has collected."""
        return self._clip.analyse([decode(upload) for upload in uploads])


@serve.deployment(max_ongoing_requests=MAX_ONGOING_REQUESTS)
@serve.ingress(api)
class Ingress:
    """The HTTP side."""

    def __init__(self, model: DeploymentHandle[Any]) -> None:
        self._model = model

    @api.post("/analyze")
    async def analyze(self, image: Annotated[UploadFile, File()]) -> Answer:
        """Have a picture analysed."""
        answer: Answer = await self._model.analyse.remote(await image.read())
        return answer


app = Ingress.bind(Model.bind())  # type: ignore[attr-defined]
