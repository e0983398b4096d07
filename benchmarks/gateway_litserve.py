"""The same model behind LitServe, which is JSON in, JSON out: python -m ... CASE MODEL BATCH."""

import socket
import sys
import threading
import time
import urllib.request
from typing import Any

import litserve
import torch
from torch import Tensor

from benchmarks.gateway_cases import cases, from_json
from benchmarks.gateway_servers import judge, say


class Api(litserve.LitAPI):  # type: ignore[misc]
    """Its worker is another process, which takes up to `max_batch_size` requests at once."""

    def __init__(self, case: str, model: str, batch: int) -> None:
        super().__init__(max_batch_size=batch)
        self.case, self.model = case, model

    def setup(self, device: str) -> None:
        self.ask = judge(cases()[self.case].spec, self.model)

    # LitServe reads annotations here as parts of the request: there are none.
    def decode_request(self, request):  # type: ignore[no-untyped-def]
        return from_json(self.case, request)

    def batch(self, inputs: list[Tensor]) -> Tensor:
        return torch.cat(inputs)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def predict(self, x: Tensor) -> Any:
        return self.ask(x)

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return {"verdicts": output}


def main() -> None:
    case, model, batch = sys.argv[1:4]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    threading.Thread(target=_when_ready, args=[f"http://127.0.0.1:{port}"], daemon=True).start()
    api = Api(case, model, int(batch))
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=port,
        num_api_servers=1,
        log_level="critical",
        generate_client_file=False,
    )


def _when_ready(url: str) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return say(url)
        except OSError:
            pass
        time.sleep(0.1)
    return None


if __name__ == "__main__":
    main()
