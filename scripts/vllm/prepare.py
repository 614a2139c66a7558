"""prepare.py FOLDER VLLM_VERSION: makes what the real vLLM servers of the tests load, all of it random or trained here.

FOLDER/model      a Llama of two small layers: configuration and tokenizer only. `--load-format dummy` fills in the same
                  random weights in every server, so that the same prompt at temperature 0 has the same answer everywhere.
FOLDER/adapter-a  two LoRA adapters with weights of a fixed seed each.
FOLDER/adapter-b
FOLDER/site       for PYTHONPATH: the version of a distribution "vllm", which the command line asks for although the build
                  for CPUs has another name; and leave to use AMX, without which a server whose first request is short ends
                  with SIGILL (Linux documents arch_prctl(ARCH_REQ_XCOMP_PERM) in Documentation/arch/x86/xstate.rst).
"""

import json
import sys
import sysconfig
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 4096
TRAINING_FILES = 150
LAYERS = 2
HIDDEN = 128
HEADS = 2
RANK = 8
END_OF_TEXT, TURN_START, TURN_END, PAD = "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"
SPECIAL = [END_OF_TEXT, TURN_START, TURN_END, PAD]

# ChatML; content may be a text or a list of text parts.
CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>tools
{{ tools | tojson }}<|im_end|>
{% endif -%}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else -%}
{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}
"""

AMX_PERMISSION = '''"""Asks Linux for leave to use AMX tiles, for this process and those that it forks."""
import ctypes
import platform

ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA = 158, 0x1023, 18
if platform.system() == "Linux" and platform.machine() == "x86_64":
    # A processor without AMX refuses, and needs no leave.
    ctypes.CDLL(None).syscall(ARCH_PRCTL, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)
'''


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1) + "\n")


def make_tokenizer(folder):
    """A byte-level BPE over Python's own library, which every machine has."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:TRAINING_FILES]
    tokenizer.train([str(path) for path in library], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def make_model(folder):
    tokenizer = make_tokenizer(folder)
    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    added = {
        str(ids[token]): {
            "content": token,
            "special": True,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
        }
        for token in SPECIAL
    }
    write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": 8192,
            "eos_token": TURN_END,
            "pad_token": PAD,
            "clean_up_tokenization_spaces": False,
            "added_tokens_decoder": added,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    ends = {"eos_token_id": ids[TURN_END], "pad_token_id": ids[PAD]}
    write(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": HIDDEN,
            "intermediate_size": 2 * HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "num_key_value_heads": HEADS,
            "head_dim": HIDDEN // HEADS,
            "max_position_embeddings": 8192,
            "torch_dtype": "bfloat16",
            "bos_token_id": ids[END_OF_TEXT],
            **ends,
        },
    )
    write(folder / "generation_config.json", ends)


def make_adapter(folder, seed):
    random = torch.Generator().manual_seed(seed)
    modules = ["q_proj", "v_proj"]

    def matrix(rows, columns):
        return torch.randn(rows, columns, generator=random).to(torch.bfloat16)

    weights = {}
    for layer in range(LAYERS):
        for module in modules:
            name = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{name}.lora_A.weight"] = matrix(RANK, HIDDEN)
            weights[f"{name}.lora_B.weight"] = matrix(HIDDEN, RANK)
    write(
        folder / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": RANK,
            "lora_alpha": 2 * RANK,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": modules,
            "base_model_name_or_path": "tiny",
            "inference_mode": True,
        },
    )
    save_file(weights, folder / "adapter_model.safetensors")


def make_site(folder, version):
    write(folder / f"vllm-{version}.dist-info" / "METADATA", f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")
    write(folder / "sitecustomize.py", AMX_PERMISSION)


if __name__ == "__main__":
    root, vllm_version = Path(sys.argv[1]), sys.argv[2]
    make_model(root / "model")
    make_adapter(root / "adapter-a", 1)
    make_adapter(root / "adapter-b", 2)
    make_site(root / "site", vllm_version)
