"""Plain FastAPI: a `def` route, which FastAPI runs in a thread of its pool; one picture per forward pass."""

from typing import Annotated

from fastapi import FastAPI, File, UploadFile

from benchmarks.peers.clip import Answer, TorchClip, decode, model_folder

clip = TorchClip(model_folder())
app = FastAPI()


@app.post("/analyze")
def analyze(image: Annotated[UploadFile, File()]) -> Answer:
    """Analyse one picture."""
    return clip.analyse([decode(image.file.read())])[0]
