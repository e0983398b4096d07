"""Run by an interpreter that has kserve: python kserve_asks.py URL ARRAY.npy; answers in JSON."""

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def ask(url: str, x: np.ndarray) -> dict[str, object]:
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0, timeout=30))
    found: dict[str, object] = {
        "live": await client.is_server_live(url),
        "ready": await client.is_server_ready(url),
        "model": await client.is_model_ready(url, "buckler"),
    }
    for binary in (False, True):
        given = InferInput("input", list(x.shape), "FP32")
        given.set_data_from_numpy(x, binary_data=binary)
        request = InferRequest("buckler", [given], request_id="mine")
        answer = await client.infer(url, request, model_name="buckler")
        status = next(output for output in answer.outputs if output.name == "status")
        said = [each.decode() if isinstance(each, bytes) else each for each in status.data]
        found["binary" if binary else "json"] = {"id": answer.id, "status": said}
    await client.close()
    return found


sys.stdout.write(json.dumps(asyncio.run(ask(sys.argv[1], np.load(sys.argv[2])))))
