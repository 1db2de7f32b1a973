"""Stands for `litert.gpu_process` whose driver dies while it compiles, as with weights of 4 bits in blocks."""

import os
import signal
import sys

if __name__ == "__main__":
    print("Selected adapter: llvmpipe (LLVM 19.1.7, 256 bits), arch=software", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)
