"""Makes a sample trace: python make_sample.py chat > chat.jsonl

Kinds: chat (one system prompt for all), tenants (40 system prompts, a Zipf law), agents (contexts that grow), documents
(long ones, asked about a few times), bursts, strangers (nothing shared). The traces' blocks have 64 tokens, those of
agents and documents 256:

    fd-router simulate --trace chat.jsonl --block-tokens 64 --max-running 32 --speed 50

A slow instance, or one that joins later, is a matter of the fleet: --speeds 1,1,1,0.4, --join-at 60.
"""

from __future__ import annotations

import argparse
import json
import sys

from fd_router.devtools.traces.samples import SAMPLES


def main() -> int:
    """Make the trace and write it to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=list(SAMPLES))
    parser.add_argument("--requests", type=int, default=1000, help="[1000]")
    parser.add_argument("--seed", type=int, default=0, help="[0]")
    arguments = parser.parse_args()
    for request in SAMPLES[arguments.kind](arguments.requests, arguments.seed):
        entry = {
            "timestamp": round(request.at * 1000),
            "input_length": request.input_tokens,
            "output_length": request.output_tokens,
            "hash_ids": request.hash_ids,
            "session": request.session,
        }
        print(json.dumps(entry))
    return 0


if __name__ == "__main__":
    sys.exit(main())
