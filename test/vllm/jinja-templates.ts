// Chat templates in the shapes of those that well-known models ship, written anew, for a server that takes a template
// with each request.

const CHATML = `{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}`;

/** Iterates over parts, so that the server hands contents over as lists. */
const PARTS = `{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{- message.content }}
{%- else %}{%- for part in message.content %}{{- part.text }}{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}`;

const DEFAULT_SYSTEM = `{%- if messages[0].role != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
${CHATML}`;

/** Llama 3.x: \`date\` is an expression. */
function llama3(date: string): string {
  return `{%- set date = ${date} %}
{%- if messages[0].role == 'system' %}
  {%- set system = messages[0].content | trim %}{%- set messages = messages[1:] %}
{%- else %}{%- set system = '' %}{%- endif %}
{{- '<|begin|><|header|>system<|end|>\\n\\nCutting Knowledge Date: December 2023\\nToday Date: ' + date }}
{{- '\\n\\n' + system + '<|eot|>' }}
{%- for message in messages %}
{{- '<|header|>' + message.role + '<|end|>\\n\\n' + message.content | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|header|>assistant<|end|>\\n\\n' }}{% endif %}`;
}

const ALTERNATES = `{%- for message in turns %}
{%- if message.role != ('user' if loop.index0 % 2 == 0 else 'assistant') %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- endfor %}`;
const SPLIT = `{%- if messages[0].role == 'system' %}
{%- set system = messages[0].content %}{%- set turns = messages[1:] %}
{%- else %}{%- set turns = messages %}{%- endif %}`;

/** The system prompt goes into the last question. */
const MISTRAL = `${SPLIT}${ALTERNATES}{{- '<s>' }}
{%- for message in turns %}
{%- if message.role == 'user' %}
{{- '[INST] ' + (system + '\\n\\n' if loop.last and system is defined else '') + message.content + '[/INST]' }}
{%- else %}{{- ' ' + message.content + '</s>' }}{%- endif %}
{%- endfor %}`;

/** The system prompt stands before the first question. */
const GEMMA = `${SPLIT}${ALTERNATES}{{- '<bos>' }}
{%- for message in turns %}
{%- set role = 'model' if message.role == 'assistant' else message.role %}
{{- '<start_of_turn>' + role + '\\n' + (system + '\\n\\n' if loop.first and system is defined else '') }}
{{- message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{% endif %}`;

/** Thoughts of answers before the last question are left out. */
const THINKING = `{%- set ns = namespace(last=-1) %}
{%- for message in messages %}{%- if message.role == 'user' %}{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}
{%- set thought = '' %}{%- set content = message.content %}
{%- if '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if loop.index0 > ns.last and (loop.last or thought) %}
{{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
{%- else %}{{- '<|im_start|>assistant\\n' + content }}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- else %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}`;

const NUMBERED = `{%- for message in messages %}
{{- loop.index ~ '. ' + message.role + ': ' + message.content + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'assistant:' }}{% endif %}`;

export const JINJA = {
  chatml: CHATML,
  parts: PARTS,
  defaultSystem: DEFAULT_SYSTEM,
  llama31: llama3("'26 Jul 2024'"),
  llama32: llama3("strftime_now('%d %b %Y')"),
  mistral: MISTRAL,
  gemma: GEMMA,
  thinking: THINKING,
  numbered: NUMBERED,
} as const;
