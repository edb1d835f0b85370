"""Runs the Triton kernels in Triton's interpreter, in a process of its own: TRITON_INTERPRET must be set before Triton is first imported, and the tests'
process also compiles kernels. Reads (op, function, arguments) from standard input and writes (result, error) to standard output, until the input ends."""
import io
import os
import struct
import sys
from importlib import import_module

if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "1"

import numpy  # noqa: E402
import torch  # noqa: E402


def send(stream, value) -> None:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    stream.write(struct.pack("<q", buffer.tell()) + buffer.getvalue())
    stream.flush()


def receive(stream):
    """None at the end of the stream."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    return torch.load(io.BytesIO(stream.read(struct.unpack("<q", head)[0])), weights_only=True)


def pack(a):
    """A tensor spread over much more memory than it fills, as its numbers and where they go."""
    if not isinstance(a, torch.Tensor) or a.untyped_storage().nbytes() < 1 << 26:
        return a
    return ("spread", a.contiguous(), a.untyped_storage().nbytes() // a.element_size(), list(a.stride()), a.storage_offset())


def unpack(a):
    if not isinstance(a, tuple):
        return a
    _, data, storage, stride, offset = a
    spread = torch.empty(storage, dtype=data.dtype).as_strided(data.shape, stride, offset)  # only the pages written are taken
    return spread.copy_(data)


def main() -> None:
    torch.set_num_threads(1)
    numpy.seterr(all="ignore")  # masked lanes divide by 0
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever is printed goes to standard error
    while (request := receive(sys.stdin.buffer)) is not None:
        op, function, args = request
        try:
            answer = getattr(import_module(f"irstd_ext.triton.{op}"), function)(*[unpack(a) for a in args]), ""
        except Exception as error:
            answer = None, str(error)
        send(answers, answer)


if __name__ == "__main__":
    main()
