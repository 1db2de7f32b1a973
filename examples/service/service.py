"""A service that classifies pictures by a bundle (docs/serve.md).

BUNDLE=out/nano-onnx-fp16 LABELS=cat,dog,car uvicorn --app-dir examples/service service:app
"""

import os

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

import mobileclip_deploy as mcd
from mobileclip_deploy.errors import InvalidInput

MOST_BYTES = 20_000_000
LABELS = os.environ["LABELS"].split(",")
bundle = mcd.open_bundle(os.environ["BUNDLE"])
app = FastAPI()


async def content_of(request: Request) -> bytes:
    """Returns the body of a request, and refuses one that is too long before it is in memory."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise HTTPException(413, f"a picture has at most {MOST_BYTES:,} bytes")
    return bytes(body)


@app.post("/classify")
async def classify(request: Request, top: int = 3) -> dict[str, float]:
    """Probabilities of the labels for the picture in the body, the most probable first."""
    content = await content_of(request)
    (probabilities,) = await run_in_threadpool(bundle.classify, content, LABELS, top=max(1, top))
    return probabilities


@app.get("/health")
def health() -> dict[str, bool]:
    """The bundle's answers to its stored inputs; 503 if they are not the checkpoint's."""
    passed = {test.tower: test.passed for test in bundle.self_test()}
    if not all(passed.values()):
        raise HTTPException(503, f"self-test: {passed}")
    return dict(passed)


@app.exception_handler(InvalidInput)
def refused(_: Request, error: InvalidInput) -> JSONResponse:
    """A picture that cannot be used is the caller's mistake."""
    return JSONResponse({"detail": str(error)}, 400)
