"""The V2 inference protocol: named numpy arrays to and from what is sent.

Open Inference Protocol, "HTTP/REST" and its binary tensor data extension (KServe, Triton,
MLServer). A message is JSON, and behind it the bytes of the tensors whose parameters name a
binary_data_size; the header Inference-Header-Content-Length says where the JSON ends. Whatever
is wrong with a body is a DataError in one sentence, and no body makes the reader take memory
that its own bytes do not fill.
"""

from buckler.wire.datatypes import DATATYPES
from buckler.wire.message import (
    HEADER_LENGTH,
    RESERVED,
    InferRequest,
    InferResponse,
    Message,
    infer_request,
    infer_response,
    raw_request,
    read_infer_request,
    read_infer_response,
    unframe,
)
from buckler.wire.tensor import Arrays
from buckler.wire.words import Parameters

__all__ = [
    "DATATYPES",
    "HEADER_LENGTH",
    "RESERVED",
    "Arrays",
    "InferRequest",
    "InferResponse",
    "Message",
    "Parameters",
    "infer_request",
    "infer_response",
    "raw_request",
    "read_infer_request",
    "read_infer_response",
    "unframe",
]
