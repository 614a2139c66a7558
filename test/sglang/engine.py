"""engine.py: SGLang's own prefix cache and KV event publisher, without a model.

Each line of standard input is a JSON list: a command, which is a method of Engine, and its arguments. Each is answered
by a line: its result.
"""

import json
import socket
import sys
import time
import warnings
from array import array
from types import SimpleNamespace

warnings.filterwarnings("ignore")

import torch
from sglang.srt.disaggregation.kv_events import EventPublisherFactory, KVEventBatch, KVEventsConfig
from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams, MatchPrefixParams
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.events import KvEventLoraNames
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey
from sglang.srt.mem_cache.unified_cache.components import ComponentType
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache
from sglang.srt.runtime_context import publish
from sglang.srt.server_args import ServerArgs

BIND_ATTEMPTS = 100
BIND_PAUSE_SECONDS = 0.1


class Memory:
    """Stands for the memory of the blocks: what the cache gives back to it is of no interest."""

    device = "cpu"

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


class LossySocket:
    """The publisher's socket; the next `drops` messages are lost on their way."""

    def __init__(self, socket):
        self.socket = socket
        self.drops = 0

    def send_multipart(self, frames):
        if self.drops > 0:
            self.drops -= 1
        else:
            self.socket.send_multipart(frames)

    def __getattr__(self, name):
        return getattr(self.socket, name)


def wait_until_free(port):
    """ZeroMQ closes in the background: the publisher before may still listen."""
    for _ in range(BIND_ATTEMPTS):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
                probe.listen()
                return
            except OSError:
                time.sleep(BIND_PAUSE_SECONDS)


class Engine:
    publisher = None

    def start(self, options):
        """Starts anew with an empty cache, as a process that starts does: its batches are numbered from 0 again.

        options: cache (radix, python, rust: the last two are cores of the unified cache, rust what a server takes by
        default), page (tokens), eagle (whether pairs of tokens are cached), rank (data-parallel), publisher (the value
        of --kv-events-config).
        """
        if self.publisher is not None:
            self.publisher.shutdown()
        config = json.dumps(options["publisher"])
        self.lora_names = KvEventLoraNames()
        params = CacheInitParams(
            disable=False,
            req_to_token_pool=None,
            token_to_kv_pool_allocator=Memory(),
            page_size=options["page"],
            is_eagle=options["eagle"],
            enable_kv_cache_events=True,
            dynamo_kv_event_format=KVEventsConfig.from_cli(config).format == "dynamo",
            kv_event_lora_names=self.lora_names,
            tree_components=(ComponentType.FULL,),
            tree_core_backend=None if options["cache"] == "radix" else options["cache"],
        )
        self.cache = (RadixCache if options["cache"] == "radix" else UnifiedRadixCache)(params)
        for endpoint in ("endpoint", "replay_endpoint"):
            wait_until_free(int(options["publisher"][endpoint].rsplit(":", 1)[1]) + options["rank"])
        self.publisher = EventPublisherFactory.create(config, options["rank"])
        self.publisher._pub = LossySocket(self.publisher._pub)

    def key(self, tokens, about):
        """As sglang/srt/managers/schedule_batch.py makes a request's: the adapter's id ends the extra key."""
        extra_key, lora = about.get("extra_key"), about.get("lora")
        if lora is not None:
            lora_id = lora.ljust(32, "0")
            extra_key = (extra_key or "") + lora_id
            self.lora_names.register(SimpleNamespace(extra_key=extra_key, lora_id=lora_id), lora)
        return RadixKey(array("q", tokens), extra_key, cache_salt=about.get("salt"))

    def insert(self, tokens, about):
        self.cache.insert(InsertParams(key=self.key(tokens, about), value=torch.arange(len(tokens))))

    def match(self, tokens, about):
        return self.cache.match_prefix(MatchPrefixParams(key=self.key(tokens, about))).device_prefix_len

    def evict(self, tokens):
        self.cache.evict(EvictParams(num_tokens=tokens))

    def reset(self):
        self.cache.reset()

    def size(self):
        """Tokens held."""
        return self.cache.evictable_size() + self.cache.protected_size()

    def publish(self):
        """As a scheduler does after a step."""
        events = self.cache.take_events()
        if events:
            self.publisher.publish(KVEventBatch(ts=time.time(), events=events))

    def drop(self, messages):
        self.publisher._pub.drops = messages


def main():
    publish(ServerArgs(model_path="none", device="cpu"), role="tokenizer")
    engine = Engine()
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        print(json.dumps(getattr(engine, command)(*arguments)), flush=True)


main()
