"""tokens.py PORT MODEL: SGLang's own /tokenize and /detokenize for the model in the folder MODEL, without an engine."""

import sys
import warnings
from types import SimpleNamespace

warnings.filterwarnings("ignore")

import uvicorn
from fastapi import FastAPI, Request
from sglang.srt.configs.model_config import ModelConfig
from sglang.srt.entrypoints.openai.protocol import DetokenizeRequest, TokenizeRequest
from sglang.srt.entrypoints.openai.serving_tokenize import OpenAIServingDetokenize, OpenAIServingTokenize
from sglang.srt.parser.template_manager import TemplateManager
from sglang.srt.runtime_context import publish
from sglang.srt.server_args import ServerArgs
from transformers import AutoTokenizer


class TokenizerManager(SimpleNamespace):
    """What the handlers ask of the part of a server that talks to the engine."""

    def config_value(self, name):
        return getattr(self.server_args, name)


def make_app(model):
    arguments = ServerArgs(model_path=model, device="cpu")
    publish(arguments, role="tokenizer")
    manager = TokenizerManager(
        tokenizer=AutoTokenizer.from_pretrained(model),
        processor=None,
        model_config=ModelConfig.from_server_args(arguments),
        server_args=arguments,
        served_model_name="tiny",
        model_path=model,
        request_logger=SimpleNamespace(log_requests=False),
    )
    templates = TemplateManager()
    templates.initialize_templates(tokenizer_manager=manager, model_path=model)
    tokenize, detokenize = OpenAIServingTokenize(manager, templates), OpenAIServingDetokenize(manager)
    app = FastAPI()

    @app.post("/tokenize")
    async def answer_tokenize(request: TokenizeRequest, raw_request: Request):
        return await tokenize.handle_request(request, raw_request)

    @app.post("/detokenize")
    async def answer_detokenize(request: DetokenizeRequest, raw_request: Request):
        return await detokenize.handle_request(request, raw_request)

    return app


uvicorn.run(make_app(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
