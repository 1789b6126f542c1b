"""The guide's algorithm: a picture at 512x512, then per category the whole of CLIP in float32, labels included.

So five passes over the picture and 69 labels encoded per request. The route is blocking, as the guide's is.
"""

import io
from typing import Annotated

import numpy as np
from fastapi import FastAPI, File, UploadFile
from PIL import Image

from benchmarks.peers.clip import TOP_LABELS, Answer, model_folder
from deployments.clip.labels import load_labels
from deployments.clip.settings import DEFAULT_LABELS_FILE
from tests.support.reference import OriginalAlgorithm

labels = load_labels(DEFAULT_LABELS_FILE)
algorithm = OriginalAlgorithm(model_folder(), labels)
app = FastAPI()


@app.post("/analyze")
async def analyze(image: Annotated[UploadFile, File()]) -> Answer:
    """Analyse one picture; nothing else is answered meanwhile."""
    scores = algorithm.scores(Image.open(io.BytesIO(await image.read())))
    analysis = {}
    for name, category, _ in labels.categories():
        best = np.argsort(-scores[name])[:TOP_LABELS]
        analysis[name] = [{"value": category.labels[i], "score": float(scores[name][i])} for i in best]
    return {"analysis": analysis}
