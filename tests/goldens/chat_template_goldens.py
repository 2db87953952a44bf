#!/usr/bin/env python3
"""Makes the chat template goldens with Jinja2 (3.1.6 when they were last made), set up the way `transformers` does it.

    chat_template_goldens.py SHARED_DIR

SHARED_DIR/data/tokenizers holds tokenizers with templates of their own. Writes into chat_template/ beside itself
  templates.json    templates, each with inputs and what they render to ("error": the template or Python refuses)
  expressions.json  small templates over a few variables, likewise
"""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2024, 7, 26, 15, 4, 5)


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        if any(name.startswith("_") for name in attributes):
            raise jinja2.exceptions.SecurityError("a namespace takes no name that starts with '_'")
        jinja2.utils.Namespace.__init__(self, attributes)


def environment():
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.globals["namespace"] = Namespace
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(template, variables):
    try:
        return {"expected": environment().from_string(template).render(**variables)}
    except Exception as error:  # whatever Python thinks of it
        return {"error": f"{type(error).__name__}: {error}"}


LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
    "{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)

LLAMA31 = r"""{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- System message + builtin tools #}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") + "\n\n"}}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {{- "You have access to the following functions. To call a function, please respond with JSON for a function call." }}
    {{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' }}
    {{- "Do not use variables.\n\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{#- Custom tools are passed in a user message with some extra guidance #}
{%- if tools_in_user_message and not tools is none %}
    {#- Extract the first user message so we can plug it in here #}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Cannot put tools in the first user message when there's no first user message!") }}
{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\n\n' -}}
    {{- "Given the following functions, please respond with a JSON for a function call " }}
    {{- "with its proper arguments that best answers the given prompt.\n\n" }}
    {{- 'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.' }}
    {{- "Do not use variables.\n\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\n\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {%- if builtin_tools is defined and tool_call.name in builtin_tools %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
            {{- "<|python_tag|>" + tool_call.name + ".call(" }}
            {%- for arg_name, arg_val in tool_call.arguments | items %}
                {{- arg_name + '="' + arg_val + '"' }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- endif %}
                {%- endfor %}
            {{- ")" }}
        {%- else  %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
            {{- '{"name": "' + tool_call.name + '", ' }}
            {{- '"parameters": ' }}
            {{- tool_call.arguments | tojson }}
            {{- "}" }}
        {%- endif %}
        {%- if builtin_tools is defined %}
            {#- This means we're in ipython mode #}
            {{- "<|eom_id|>" }}
        {%- else %}
            {{- "<|eot_id|>" }}
        {%- endif %}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""

MISTRAL = r"""{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- This block checks for alternating user/assistant messages, skipping tool calling messages #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}
            {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
        {%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + "
    "'\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)

# A made-up one that works the way templates of models that think do: macros, namespaces, reverse order, splitting.
THINKING = r"""{%- macro show(content, tag='text') -%}
{%- if content is string %}{{ content }}
{%- elif content is sequence %}{%- for part in content %}{% if part.type == 'text' %}{{ part.text }}{% else %}<{{ part.type }}/>{% endif %}{% endfor %}
{%- else %}<{{ tag }}>{{ content | tojson }}</{{ tag }}>{% endif -%}
{%- endmacro -%}
{%- set ns = namespace(last_query=messages|length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and not (message.content is string and message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{% for message in messages %}
{% set content = show(message.content) %}
{% if message.role == 'assistant' %}
    {%- set reasoning = '' %}
    {%- if message.reasoning_content is string %}
        {%- set reasoning = message.reasoning_content %}
    {%- elif '</think>' in content %}
        {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
    {%- endif %}
<|assistant|>
{% generation %}
{% if loop.index0 > ns.last_query and reasoning %}
<think>
{{ reasoning.strip('\n') }}
</think>

{% endif %}
{{ content }}<|end|>
{% endgeneration %}
{% else %}
<|{{ message.role }}|>
{{ content }}<|end|>
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% if enable_thinking is defined and enable_thinking is false %}
<think>

</think>

{% endif %}
{% endif %}
"""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a \"city\" — now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "default": 1.5}},
            "required": ["city"],
        },
    },
}
EMPTY_TOOL = {"type": "function", "function": {"name": "stop", "parameters": {"type": "object", "properties": {}}}}


def message(role, content, **more):
    return {"role": role, "content": content, **more}


def inputs():
    user = message("user", "Hello!")
    call = {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}}
    lists = [
        [user],
        [message("system", "You are terse."), user],
        [message("system", "  spaces around \n"), message("user", "\n\n two lines \n here\t ")],
        [user, message("assistant", "Hi. "), message("user", "And now?")],
        [message("system", "S"), user, message("assistant", " a\n"), message("user", "b"), message("assistant", "c"), message("user", "d")],
        [user, message("assistant", "Hi.")],
        [message("user", "日本語 🦙 e\u0301 \u00a0nbsp\u00a0 <|eot_id|> {{ braces }} {% tags %} \\n")],
        [message("user", "")],
        [],
        [message("assistant", "first")],
        [user, user],
        [message("user", "Weather?"), message("assistant", "", tool_calls=[call]), message("tool", "{\"t\": 20}", tool_call_id="abcdefghi"),
         message("assistant", "20 degrees"), message("user", "Thanks")],
        [message("user", "Weather?"), message("assistant", "Looking.", tool_calls=[call, call]), message("tool", "a", tool_call_id="abcdefghi"),
         message("tool", "b", tool_call_id="abcdefghi")],
        [message("user", "2+2"), message("assistant", "<think>\nadd\n</think>\n\n4"), message("user", "3+3"),
         message("assistant", "<think>\nagain\n</think>\n\n6")],
        [message("user", [{"type": "text", "text": "look"}, {"type": "image"}])],
        [message("user", None)],
        [{"role": "user"}],
    ]
    for messages in lists:
        for prompt in (False, True):
            yield {"messages": messages, "add_generation_prompt": prompt}
    for tools in ([WEATHER], [WEATHER, EMPTY_TOOL]):
        for messages in (lists[0], lists[1], lists[11], lists[12]):
            yield {"messages": messages, "add_generation_prompt": True, "tools": tools}
    yield {"messages": lists[1], "add_generation_prompt": True, "tools": [WEATHER], "tools_in_user_message": False}
    yield {"messages": lists[11], "add_generation_prompt": True, "builtin_tools": ["get_weather", "code_interpreter"]}
    yield {"messages": lists[3], "add_generation_prompt": True, "date_string": "1 Jan 2025"}
    yield {"messages": lists[3], "add_generation_prompt": True, "enable_thinking": False}


VARIABLES = {
    "n": 7,
    "neg": -7,
    "x": 2.5,
    "s": "Hello, World",
    "u": "ÄÖ straße 日本",
    "w": "  padded\t\n",
    "empty": "",
    "l": [3, 1, 2],
    "ll": [[1, 2], [3, 4]],
    "d": {"b": 1, "a": "two", "items": 5},
    "p": [{"name": "Bob", "age": 30, "tags": {"x": 1}}, {"name": "alice", "age": 25}, {"name": "Carl", "age": 30, "tags": {"x": 0}}],
    "yes": True,
    "no": False,
    "nil": None,
    "q": "it's \"quoted\" \\ back\n",
    "big": 9007199254740993,
    "floats": [0.1, 1.0, 1e16, 1e-5, 123456789.125, 1e300, -0.0],
    "control": "\u0001\u007f\u0085\u200b\ue000",
}

# Separated by ";;".
EXPRESSIONS = r"""
n + 1 ;; n - 10 ;; n * 2 ;; n / 2 ;; n // 2 ;; neg // 2 ;; neg % 3 ;; n % -3 ;; n ** 2 ;; 2 ** -1 ;; x * 2 ;; x // 1 ;; n / 0 ;; n % 0 ;;
1.5 + 1 ;; 7.0 // 2 ;; -7.5 % 2 ;; -n ;; +n ;; --n ;; - n ** 2 ;; 2 ** 3 ** 2 ;; 1 + 2 * 3 ;; (1 + 2) * 3 ;; 1 ~ 2 + 3 ;;
'a' ~ 1 ~ none ~ true ~ 1.0 ;; 'a' + 'b' ;; 'a' + 1 ;; 'ab' * 3 ;; 3 * 'ab' ;; [1] * 2 ;; [1] + [2, 3] ;; (1,) + (2,) ;; [1] + (2,) ;;
n == 7 ;; n == 7.0 ;; n != 7 ;; n < 8 ;; n >= 7 ;; 1 < 2 < 3 ;; 1 < 2 > 3 ;; 'a' < 'b' ;; 'a' < 1 ;; [1, 2] < [1, 3] ;; true == 1 ;;
none == false ;; s == 'Hello, World' ;; d == {'b': 1, 'a': 'two', 'items': 5} ;; [1] == (1,) ;; 'Hello' in s ;; 'x' not in s ;; 3 in l ;;
5 in l ;; 'b' in d ;; 'z' in d ;; 1 in s ;; not n ;; not not n ;; n and s ;; empty or 'fallback' ;; no or nil ;; yes and no ;;
nil and missing.x ;; 'yes' if n > 5 else 'no' ;; 'yes' if n > 50 ;; ('yes' if n > 50) is defined ;; 1 if yes else 2 if no else 3 ;;
true ;; false ;; none ;; True ;; None ;; 1_000 ;; 1.5e3 ;; 2e-3 ;; 0 ;; "double" ;; 'single' ;; 'a' 'b' ;;
'\x41\u00e9\U0001f999\101\n|' ;; '\q' ;; "it's" ;; [1, 'a', none, true, 1.5] ;; {'a': 1, 'b': [1, {}]} ;; (1,) ;; () ;; (1, 2) ;; [] ;;
{} ;; ['it\'s', "q\"", 'b\\', '\n'] ;; [u, control] ;; {1: 'x', none: 'y', (1, 2): 'z'} ;; [missing] ;; s[0] ;; s[-1] ;; s[100] ;;
s[1:4] ;; s[::-1] ;; s[-5:] ;; s[:-5] ;; s[::2] ;; u[3:5] ;; u[::-1] ;; l[0] ;; l[-1] ;; l[1:] ;; l[::-1] ;; l[5:1:-2] ;; l[10] ;;
l['x'] ;; d['a'] ;; d.a ;; d.b ;; d.zzz ;; d['zzz'] ;; d.zzz.y ;; d['zzz']['y'] ;; missing ;; missing.x ;; missing['x'] ;; missing[1:] ;;
l.0 ;; ll[1][0] ;; ll.1.0 ;; s[::0] ;; s['a'] ;; n.x ;; n[0] ;; nil.x ;; l[true] ;; l['0'] ;; s[1.0] ;; d.items() ;; d.keys() ;;
d.values() ;; d.get('a') ;; d.get('q') ;; d.get('q', 1) ;; d.keys()|list ;; d|list ;; d|length ;; d.items()|list ;; d|items|list ;;
d.pop('a') ;; l.append(1) ;; l.count(1) ;; l.index(2) ;; l.index(9) ;; d.update({}) ;; s.upper() ;; s.lower() ;; s.title() ;;
"they're bill's".title() ;; s.capitalize() ;; w.strip() ;; w.lstrip() ;; w.rstrip() ;; s.strip('Hd') ;; s.split() ;; s.split(', ') ;;
s.split('l', 1) ;; 'a,b,,c'.split(',') ;; ' a  b '.split() ;; ' a  b  c '.split(none, 1) ;; ''.split() ;; ''.split(',') ;;
'a'.split('') ;; s.startswith('He') ;; s.startswith(('x', 'H')) ;; s.endswith('ld') ;; s.replace('l', 'L') ;; s.replace('l', 'L', 1) ;;
s.replace('', '-') ;; s.find('World') ;; s.find('q') ;; s.rfind('o') ;; u.find('日') ;; ', '.join(['a', 'b']) ;; ', '.join([1]) ;;
'a\nb\r\nc\n'.splitlines() ;; s.count('l') ;; 'aaa'.count('aa') ;; s.count('') ;; '12'.isdigit() ;; ''.isdigit() ;; ' '.isspace() ;;
s.removeprefix('Hello') ;; s.removesuffix('ld') ;; 'ÄÖé'.upper() ;; u.lower() ;; s.nothing ;; s.nothing() ;; s.strip(1) ;;
s.startswith(1) ;; s|upper ;; s|lower ;; s|length ;; u|length ;; l|length ;; d|length ;; n|length ;; missing|length ;; w|trim ;;
s|trim('Hd') ;; s|title ;; 'foo-bar (baz) [qux] don\'t'|title ;; s|capitalize ;; 'éCOLE'|capitalize ;; l|first ;; l|last ;; []|first ;;
s|first ;; s|last ;; l|join ;; l|join(', ') ;; p|join(', ', attribute='name') ;; missing|default('x') ;; empty|default('x') ;;
empty|default('x', true) ;; nil|default('x') ;; nil|d('x', boolean=true) ;; s|replace('l', 'L') ;; s|replace('l', 'L', 1) ;;
n|replace('7', '8') ;; s|list ;; d|list ;; l|string ;; n|string ;; nil|string ;; '42'|int ;; ' 42 '|int ;; '4.7'|int ;; 'x'|int ;;
'x'|int(-1) ;; 4.7|int ;; -4.7|int ;; yes|int ;; nil|int ;; '1.5'|float ;; 'x'|float ;; n|float ;; 'x'|float(2.0) ;; neg|abs ;;
(-1.5)|abs ;; s|safe ;; '<a href="x">&\'</a>'|e ;; l|sum ;; p|sum(attribute='age') ;; l|sort ;; l|sort(reverse=true) ;;
p|sort(attribute='name')|map(attribute='name')|list ;; ['b', 'A', 'c']|sort ;; ['b', 'A', 'c']|sort(case_sensitive=true) ;; l|min ;;
l|max ;; []|max ;; d|dictsort ;; {'b': 1, 'a': 2}|dictsort ;; {'b': 1, 'a': 2}|dictsort(by='value') ;; ['a', 'A', 'b']|unique|list ;;
s|reverse ;; l|reverse|list ;; l|reverse|first ;; p|map(attribute='name')|list ;; p|map(attribute='tags.x', default='none')|list ;;
p|map(attribute='zzz')|list ;; l|map('string')|list ;; ['a', 'b']|map('upper')|join ;; l|map('default', 1)|list ;;
p|selectattr('tags')|map(attribute='name')|list ;; p|selectattr('tags', 'defined')|map(attribute='name')|list ;;
p|selectattr('age', 'equalto', 30)|list|length ;; p|rejectattr('age', '==', 30)|map(attribute='name')|first ;; l|select('odd')|list ;;
l|reject('gt', 1)|list ;; l|select|list ;; l|select('odd')|length ;; (l|select('odd')) is defined ;; 'yes' if [] | select else 'no' ;;
d|attr('a') ;; d|attr('get')('a') ;; l|map('nothing')|list ;; d|tojson ;; p|tojson ;; q|tojson ;; u|tojson ;;
u|tojson(ensure_ascii=true) ;; control|tojson ;; floats|tojson ;; floats ;; d|tojson(indent=2) ;; ll|tojson(indent=2) ;;
[]|tojson(indent=2) ;; {'a': {}, 'b': []}|tojson(indent=4) ;; d|tojson(sort_keys=true) ;; d|tojson(separators=(',', ':')) ;;
d|tojson(indent='--') ;; {1: true, none: 1.0, 2.5: 'x'}|tojson ;; (1, 2)|tojson ;; missing|tojson ;; big ;; big|tojson ;;
'🦙'|tojson(ensure_ascii=true) ;; d|tojson(indent=0) ;; range(3)|tojson ;; 'a\n\nb'|indent ;; 'a\n\nb'|indent(2, true) ;;
'a\n\nb'|indent(2, blank=true) ;; 'a\nb'|indent('> ') ;; 'a\nb\n'|indent ;; 'a\n\n'|indent ;; n is defined ;; missing is defined ;;
missing is undefined ;; missing is not defined ;; d.zzz is defined ;; nil is none ;; nil is not none ;; s is string ;; n is string ;;
n is number ;; yes is number ;; x is number ;; n is integer ;; yes is integer ;; x is float ;; yes is boolean ;; n is boolean ;;
d is mapping ;; l is mapping ;; l is iterable ;; s is iterable ;; n is iterable ;; d is iterable ;; missing is iterable ;;
l is sequence ;; s is sequence ;; d is sequence ;; n is sequence ;; missing is sequence ;; (l|map('string')) is sequence ;;
(l|map('string')) is iterable ;; yes is true ;; n is true ;; no is false ;; 1 is true ;; n is odd ;; n is even ;; neg is odd ;;
n is divisibleby 7 ;; n is divisibleby(2) ;; n is eq 7 ;; n is equalto(7) ;; s is in ['x', s] ;; n is gt 3 ;; n is in l ;;
'a' is lower ;; 'A' is upper ;; range is callable ;; n is callable ;; n is defined and s is string ;; n is not string or missing.x ;;
s is odd ;; range(5)|list ;; range(1, 5)|list ;; range(5, 0, -2)|list ;; range(0)|list ;; range(3)|length ;; range(3)[1] ;;
range(10)[2:4]|list ;; range(1000000)|length ;; range(1, 2, 0)|list ;; dict(a=1, b=2) ;; dict({'a': 1}, b=2) ;; namespace(a=1).a ;;
namespace().zzz ;; namespace(_x=1) ;; raise_exception('no\nway') ;; strftime_now('%d %B %Y') ;; strftime_now('%Y-%m-%d %H:%M:%S %%') ;;
missing() ;; n() ;; strftime_now('') ;; 1, 2 ;; (1) ;; ((1, 2)) ;; [1, 2,] ;; {'a': 1,} ;; n.__class__ ;; ''.__class__ ;;
d|length > 1 and l|length > 2 ;; l|length + 1 ;; -l|length ;; -1|abs ;; n|string + 'x' ;; 'a' ~ n|string ;; l|join('-') ~ '!' ;;
not n is defined ;; not l|length == 3 ;; 'a' in d and 'b' in d ;; s.split(',')[0].strip()|upper ;; '%s' is string ;; nil or {} == {} ;;
[1,2] in ll ;; u|title ;; u.title() ;; [1.0, 1e100, 1e22, 1.5e-7, 100000.0] ;; [1e15, 1e16, 123456789012345678]
"""

# What Python's % and str.format make of a value, one after the other.
FORMATS = r"""
'%s-%d' % ('a', 3) ;; '%s' % 'a' ;; '%s' % n ;; '%s' % nil ;; '%s' % l ;; '%s' % d ;; '%s' % missing ;; '%s' % (missing,) ;; '%d' % 3.9 ;;
'%d' % 'x' ;; '%d' % nil ;; '%i %u' % (1, -2) ;; '%s %s' % ('a',) ;; '%s' % ('a', 'b') ;; 'abc' % 1 ;; 'abc' % () ;; 'abc' % l ;; 'abc' % d ;;
'abc' % 'x' ;; '%%' % () ;; '100%%' % () ;; '%' % () ;; '%y' % 1 ;; '%5s|' % 'ab' ;; '%-5s|' % 'ab' ;; '%.1s|' % 'ab' ;; '%5.1s|' % '日本' ;;
'%05d' % 42 ;; '%05d' % -42 ;; '%+d' % 42 ;; '% d' % 42 ;; '%-6d|' % 42 ;; '%6d|' % 42 ;; '%.3d' % 5 ;; '%06.3d|' % 5 ;; '%x' % 255 ;; '%X' % 255 ;;
'%#x' % 255 ;; '%#06x' % 255 ;; '%o' % 8 ;; '%#o' % 8 ;; '%x' % -255 ;; '%x' % 1.5 ;; '%c' % 65 ;; '%c' % 'é' ;; '%c' % 'ab' ;; '%c' % 99999999 ;;
'%f' % 1 ;; '%.2f' % 2.675 ;; '%8.3f|' % x ;; '%-8.1f|' % x ;; '%08.2f' % -x ;; '%+.1f' % x ;; '%e' % 12345.678 ;; '%.2E' % 0.00012 ;;
'%g' % 1e10 ;; '%g' % 0.0001 ;; '%.3g' % 1234.5 ;; '%G' % 1e-10 ;; '%f' % 'x' ;; '%.0f' % 2.5 ;; '%.0f' % 3.5 ;; '%r' % 'a' ;; '%r' % 'é' ;; '%a' % 'é' ;;
'%(a)s-%(b)s' % d ;; '%(zzz)s' % d ;; '%(a)s' % 1 ;; '%(a' % d ;; '%*d' % (5, 42) ;; '%-*d|' % (5, 42) ;; '%.*f' % (1, 2.25) ;; '%*d' % ('x', 1) ;;
'%s' % true ;; '%d' % true ;; '%5s' % none ;; '%ld' % 3 ;; u % 1 ;; '日%s本' % 'x' ;; '%s' % (1, 2) ;; '%s' % ((1, 2),) ;; 1 % 'a' ;; n % 'a' ;;
'%s'|format('a') ;; '%s-%s'|format('a', 3) ;; '%(x)s'|format(x=1) ;; '%s'|format ;; '%s'|format('a', x=1) ;; '%s %s'|format('a') ;; 'x'|format('a') ;;
n|format(1) ;; '%d'|format(3.7) ;; '%.2f'|format(1.005) ;; '%s'|format(none) ;; '%s'|format(missing) ;; '%%'|format ;; 'x'|format ;;
'{}{}'.format('a', 'b') ;; '{0}{1}{0}'.format('a', 'b') ;; '{x}'.format(x=1) ;; '{}'.format() ;; '{} {0}'.format(1) ;; '{0} {}'.format(1) ;;
'{x}'.format() ;; '{{}}'.format() ;; '{{{}}}'.format(1) ;; '{'.format(1) ;; '}'.format(1) ;; '{}}'.format(1) ;; 'plain'.format(1) ;;
'{:5}|'.format('ab') ;; '{:>5}|'.format('ab') ;; '{:^5}|'.format('ab') ;; '{:*^6}|'.format('ab') ;; '{:日<4}|'.format('ab') ;; '{:.1}'.format('ab') ;;
'{:5}|'.format(42) ;; '{:<5}|'.format(42) ;; '{:05}'.format(-42) ;; '{:+}'.format(42) ;; '{: }'.format(42) ;; '{:=+6}'.format(42) ;; '{:,}'.format(1234567) ;;
'{:_}'.format(1234567) ;; '{:x}'.format(255) ;; '{:#X}'.format(255) ;; '{:b}'.format(5) ;; '{:#010b}'.format(5) ;; '{:o}'.format(8) ;; '{:_x}'.format(1048575) ;;
'{:d}'.format(2.5) ;; '{:d}'.format('a') ;; '{:s}'.format('a') ;; '{:s}'.format(1) ;; '{:f}'.format(1) ;; '{:.2f}'.format(2.675) ;; '{:8.3f}|'.format(2.5) ;;
'{:,.2f}'.format(1234567.891) ;; '{:%}'.format(0.256) ;; '{:.1%}'.format(0.256) ;; '{:e}'.format(12345.678) ;; '{:g}'.format(1e10) ;; '{:g}'.format(100000) ;;
'{:.3}'.format(1234.5678) ;; '{:.3}'.format(3.0) ;; '{:10}|'.format(2.5) ;; '{:<10}|'.format(2.5) ;; '{:+}'.format(2.5) ;; '{:08}'.format(-2.5) ;;
'{:.2}'.format(5) ;; '{:5}|'.format(true) ;; '{:d}'.format(true) ;; '{}'.format(true) ;; '{}'.format(none) ;; '{:5}'.format(none) ;; '{}'.format(l) ;;
'{:5}'.format(l) ;; '{}'.format(missing) ;; '{:5}'.format(missing) ;; '{!r}'.format('a') ;; '{!s:>4}|'.format(1) ;; '{!a}'.format('é') ;; '{!x}'.format(1) ;;
'{0[0]}'.format(l) ;; '{0[a]}'.format(d) ;; '{d.a}'.format(d=d) ;; '{p[0][name]}'.format(p=p) ;; '{0[9]}'.format(l) ;; '{:{}}|'.format('ab', 5) ;;
'{:{w}.{q}f}|'.format(2.5, w=8, q=2) ;; '{a}-{b}'.format_map(d) ;; '{zzz}'.format_map(d) ;; '{:>05}'.format('ab') ;; '{:05}'.format('ab') ;; '{:+}'.format('a') ;; '{:*>05}'.format('ab') ;; '{:>05}'.format(-4) ;;
'{:.-1}'.format('a') ;; '{:q}'.format(1) ;; '{:.}'.format(1) ;; '{:f}'.format('x') ;; '{0:{0}}'.format(3)
"""

# Methods and filters beyond those that every template uses.
MORE = r"""
3.7|round ;; 3.7|round|int ;; 2.5|round ;; 3.5|round ;; -2.5|round ;; -0.4|round ;; 2.675|round(2) ;; 1.005|round(2) ;; 1234.5678|round(-2) ;; 7|round ;; 7|round(2) ;;
1250|round(-2) ;; 1350|round(-2) ;; -1250|round(-2) ;; 15|round(-1) ;; 42.55|round(1, 'floor') ;; 42.51|round(1, 'ceil') ;; 42.1|round(method='ceil') ;; 42|round(method='floor') ;;
'x'|round ;; nil|round ;; yes|round ;; 3.7|round(0, 'up') ;; 1e300|round(2) ;;
'a.b.c'.rsplit('.', 1) ;; 'a.b.c'.rsplit('.') ;; 'a.b'.rsplit('.', 1)|join ;; ' a  b c '.rsplit() ;; ' a  b c '.rsplit(none, 1) ;; 'abc'.rsplit('', 1) ;; ''.rsplit() ;; ''.rsplit('.') ;;
'a.b.c'.rsplit('.', 0) ;; ' a b '.rsplit(maxsplit=0) ;; 'a-b-c'.partition('-') ;; 'a-b-c'.rpartition('-') ;; 'abc'.partition('-') ;; 'abc'.rpartition('-') ;; 'abc'.partition('') ;;
'ß'|upper ;; 'straße'.upper() ;; 'ß'.title() ;; 'ßa'.capitalize() ;; 'ﬁn'.upper() ;; 'ﬁn'.title() ;; 'ŉ'.upper() ;; 'İ'.lower() ;; 'ΑΣ ΣΑΣ Σ'.lower() ;; 'ΑΣ.Α'.lower() ;; 'ΑΣ\u0301'.lower() ;;
'ǆ'.upper() ;; 'ǆ'.title() ;; 'ǆ'|title ;; 'ᾳ'.upper() ;; 'ᾳ'.title() ;; 'ΐ'.upper() ;; 'ß'.casefold() ;; 'ΣÄ'.casefold() ;; 'ﬁ'.casefold() ;; 'aBß'.swapcase() ;; 'ßA'|capitalize ;; 'ß x-ß'|title ;;
'foo  bar'|title ;; '(foo)[bar]{baz}<x>-y z'|title ;; "it's 3rd"|title ;; '' |title ;;
'7'.zfill(3) ;; '-7'.zfill(4) ;; '+7'.zfill(4) ;; 'abc'.zfill(2) ;; 'a'.ljust(3) ;; 'a'.ljust(3, '*') ;; 'a'.rjust(3) ;; 'ab'.center(5) ;; 'ab'.center(5, '*') ;; 'a'.center(4, '*') ;; 'abc'.center(6, '*') ;;
'a'.center(3, '**') ;; 'ab'|center(7) ;; 'abc'|center(6) ;; ('a'|center)|length ;; 'a\tb'.expandtabs() ;; 'a\tb\n\tc'.expandtabs(4) ;; 'a\tb'.expandtabs(0) ;;
'abc'.isalpha() ;; 'ab1'.isalpha() ;; 'ab1'.isalnum() ;; 'ab '.isalnum() ;; '²'.isdigit() ;; '²'.isdecimal() ;; '٣'.isdigit() ;; '½'.isdigit() ;; '½'.isalnum() ;; 'é'.isascii() ;; 'e'.isascii() ;; ''.isascii() ;; ''.isalpha() ;;
'ABC'.isupper() ;; 'AB1'.isupper() ;; '1'.isupper() ;; 'aBc'.islower() ;; 'abc'.islower() ;; 'ǅ'.isupper() ;; 'Hello World'.istitle() ;; 'Hello world'.istitle() ;; 'HeLlo'.istitle() ;; ''.istitle() ;; 'ᾳª'.islower() ;;
'hello'.index('l') ;; 'hello'.rindex('l') ;; 'hello'.index('q') ;; 'hello'.find('l', 3) ;; 'hello'.find('l', -2) ;; 'hello'.find('l', 0, 2) ;; 'hello'.find('', 9) ;; 'hello'.rfind('l', 0, 3) ;; 'hello'.count('l', 3) ;;
'hello'.startswith('l', 2) ;; 'hello'.endswith('l', 0, 4) ;; 'hello'.startswith('', 9) ;; 'hello'.startswith(('x', 'l'), 2) ;; 'a\r\nb\n'.splitlines(true) ;; 'a\nb'.splitlines(false) ;; '日本語'.find('語', 1) ;; '日本語'.index('本') ;;
'0x1A'|int(0, 16) ;; '1A'|int(base=16) ;; '0b11'|int(0, 2) ;; '0b11'|int(0, 0) ;; '11'|int(0, 2) ;; '1_000'|int ;; '1__0'|int ;; '-12'|int ;; '+12'|int ;; '012'|int ;; '012'|int(5, 0) ;; 'zz'|int(7, 36) ;; missing|int ;; missing|float ;; missing|abs ;;
' 1.5 '|float ;; '1e3'|float ;; 'inf'|float ;; 'nan'|float ;; '1e3'|int ;; [1, 2, 3, 4, 5]|batch(2)|list ;; [1, 2, 3]|batch(2, 'x')|list ;; []|batch(2)|list ;; [1, 2, 3, 4, 5]|slice(3)|list ;; [1, 2, 3, 4]|slice(3, 'x')|list ;; []|slice(2)|list ;;
p|groupby('age') ;; p|groupby('age')|length ;; (p|groupby('age'))[0][0] ;; p|groupby('tags.x', default=9)|length ;; ['b', 'A', 'a']|groupby(0)|length ;;
'a long text of words'|truncate(10) ;; 'a long text of words'|truncate(10, true) ;; 'a long text of words'|truncate(10, true, '') ;; 'a long text'|truncate(8) ;; 'a long text'|truncate(8, leeway=0) ;; 'abcdefghijklmnopq'|truncate(9, false, '..', 0) ;; 'x'|truncate(2) ;;
5|indent ;; nil|indent ;; missing|indent ;; nil|upper ;; nil|trim ;; nil|replace('N', 'x') ;; yes|lower ;; n|title ;; nil|capitalize ;; nil|list ;; nil|join ;; nil|first ;; nil|last ;; nil|length ;; nil|sum ;; nil|sort ;; nil|unique|list ;; nil|reverse ;;
nil|min ;; nil|dictsort ;; nil|items|list ;; missing|items|list ;; nil|tojson ;; no|tojson ;; nil|string ;; missing|string ;; missing|upper ;; missing|trim ;; missing|replace('a', 'b') ;; missing|join ;; missing|list ;; missing|first is defined ;;
missing|last is defined ;; missing|sort ;; missing|sum ;; missing|min is defined ;; missing|dictsort ;; missing|reverse|list ;; missing|unique|list ;; missing|batch(2)|list ;; nil|batch(2)|list ;; nil|e ;; nil|default('x', true)|upper ;;
true is sameas true ;; 1 is sameas true ;; nil is sameas none ;; 'upper' is filter ;; 'nothing' is filter ;; 'odd' is test ;; 'nothing' is test ;; nil is string ;; nil is iterable ;; nil is mapping ;; nil is sequence ;; nil is number ;; missing is none ;;
nil == missing ;; nil ~ missing ;; nil or 'x' ;; missing or 'x' ;; missing and 1 ;; not missing ;; missing == missing ;; missing + 1 ;; 1 + missing ;; missing ~ 'a' ;; missing in l ;; 'a' in missing ;; nil in l ;; 1 in nil ;; missing if yes ;; -missing ;; missing > 1 ;; nil > 1
"""

# select and its kin look at nothing in what is false; in everything else that is no sequence they fail.
FALSE_INPUTS = ["{{ (" + value + ")|" + filter + "|list }}"
                for value in ("nil", "no", "0", "0.0", "''", "[]", "{}", "()", "missing", "yes", "n", "s", "l", "d", "nil|select", "missing|map('upper')")
                for filter in ("select", "reject", "select('string')", "reject('none')", "map('string')", "map(attribute='x')", "map(attribute='x', default='y')",
                               "selectattr('x')", "rejectattr('x')", "selectattr('x', 'equalto', 1)", "rejectattr('x', 'defined')")]

STATEMENTS = [
    "{% if n %}a{% elif s %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif s %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif no %}b{% else %}c{% endif %}",
    "{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }},{% endfor %}",
    "{% for i in [] %}x{% else %}empty{% endfor %}",
    "{% for i in missing %}x{% else %}empty{% endfor %}",
    "{% for i in n %}x{% endfor %}",
    "{% for i in nil %}x{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for (k, v) in d|items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}",
    "{% for c in 'añb' %}[{{ c }}]{% endfor %}",
    "{% for a, b in ll %}{{ a }}-{{ b }} {% endfor %}",
    "{% for a, b in l %}{{ a }}{% endfor %}",
    "{% for i in range(10) if i is odd %}{{ loop.index }}:{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}",
    "{% for i in range(3) if i > 5 %}x{% else %}none{% endfor %}",
    "{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}",
    "{% for i in l %}{{ loop.cycle('odd', 'even') }}{% endfor %}",
    "{% for i in l %}{% for j in l %}{{ loop.depth }}{{ loop.index }}{% endfor %}{{ loop.depth0 }}{% endfor %}",
    "{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in l %}{% for j in l %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}",
    "{% set y = 5 %}{% for i in l %}{{ y }}{% set y = i %}{{ y }}{% endfor %}{{ y }}",
    "{% for i in l %}{% if loop.first %}{% set z = 1 %}{% endif %}{{ z }}{% endfor %}{{ z is defined }}",
    "{% set ns = namespace(found=false, count=0) %}{% for i in l %}{% set ns.count = ns.count + i %}{% if i == 1 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.found }}{{ ns.count }}",
    "{% set ns = namespace() %}{{ ns.x is defined }}{% set ns.x %}a{{ n }}{% endset %}{{ ns.x }}",
    "{% set n.x = 1 %}",
    "{% set missing.x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a = 1, 2 %}{{ a }}",
    "{% set a, b = 1 %}",
    "{% set t %}  some {{ s }} \n{% endset %}[{{ t }}]",
    "{% set t | trim | upper %}  some {{ s }} \n{% endset %}[{{ t }}]",
    "{% if yes %}{% set inside = 1 %}{% endif %}{{ inside }}",
    "{% macro m(a, b=2, c) %}{% endmacro %}",
    "{% macro m(a, b=2) %}{{ a }}+{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=4, a=0) }} {{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=1) }}",
    "{% macro m(x) %}{{ s }}{{ outer }}{{ i }}{% endmacro %}{% set outer = 9 %}{% for i in l %}{{ m(i) }}{% endfor %}",
    "{% macro f(k) %}{{ k }}{% if k > 0 %}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1)|length }}{{ m(1) is string }}",
    "{% filter upper %}a{{ s }}{% endfilter %}",
    "{% filter replace('a', 'b')|trim %}  aaa {% endfilter %}",
    "{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% raw %}{{ not }} {% rendered %}{% endraw %}",
    "a {%- raw -%} {{ x }} {%- endraw -%} b",
    "  {% raw %}\n x {% endraw %}\n y",
    "{% generation %}x{{ n }}{% endgeneration %}\ny",
    "{# comment #}a{#- b -#}  c",
    "a\n  {# comment #}\nb",
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "a\n  {% if yes %}  \n  b\n  {% endif %}\n  c\n\n",
    "a\n  {%+ if yes %}\n  b\n  {%+ endif +%}\n  c",
    "a  {%- if yes -%}  b  {%- endif -%}  c",
    "  {{ n }}  \n  {{- n -}}  \n  x",
    "x {% if yes %} y {% endif %} z",
    "{% if yes %}\n\n\na{% endif %}",
    "\n{{ n }}\n",
    "a\r\nb\rc\r\n",
    "a\u00a0{%- if yes -%}\u2003b{% endif %}",
    "{{ {'a': {'b': 1}}['a']['b'] }}{{ {'x': '}}'}.x }}",
    "{{ '{{' }}{{ '%}' }}{{ \"#}\" }}",
    "{{\n n\n +\n 1 }}",
    "{%if n%}x{%endif%}",
    "{%- for i in l -%}\n {{ i }} \n{%- endfor -%}",
    "{ { n } } {n} {",
    "{{ n }}{",
    "{%- set x = 1 -%}\n{{ x }}",
    "{{ n",
    "{% if n %}",
    "{% endif %}",
    "{% foo %}",
    "{{ n | nothing }}",
    "{{ n is nothing }}",
    "{{ 1 + }}",
    "{{ (1 }}",
    "{{ 'abc }}",
    "{# x",
    "{% raw %}x",
    "{% for i in l %}{% endif %}",
    "{% set 1 = 2 %}",
    "{% set true = 2 %}",
    "{{ $ }}",
    "{{ }}",
    "{% break %}",
    "{{ n }} }} %} #}",
    "{% set g = p|map(attribute='name') %}{{ g|list }}{{ g|list }}",
    "{% set g = p|selectattr('tags', 'defined') %}{% for x in g %}{{ x.name }}{{ loop.length }}{% endfor %}",
    "{% if p|selectattr('age', 'gt', 100)|list %}a{% else %}b{% endif %}",
    "{% for m in p if m.tags is defined and m.tags.x %}{{ m.name }}{% endfor %}",
    "{% for x in l|sort %}{{ x }}{% endfor %}{% for x in l|reverse %}{{ x }}{% endfor %}",
    "{{ 1 if n else }}",
    "{% set x = 'a' if n else 'b' %}{{ x }}",
    "{% set x = {'a': 1} %}{% set x = dict(x, b=2) %}{{ x }}",
    "{% for i in l %}{{ i }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for i in [1, [2, [3]]] recursive %}{{ i }}{% endfor %}",
    # A filter or test that is not known matters where it is reached, if it stands on a condition (llama.cpp's DeepSeek V3.2).
    "{% if no %}{{ n | from_json }}{% endif %}ok",
    "{% if 'from_json' is filter %}{{ n | from_json }}{% else %}no{% endif %}",
    "{% if yes %}{{ n | from_json }}{% endif %}",
    "{% if no %}a{% elif n is nothing %}b{% endif %}",
    "{% if yes %}a{% elif n is nothing %}b{% endif %}",
    "{% if no %}{% set x = n | from_json %}{% endif %}x",
    "{% if no %}{% for i in n | from_json %}{{ i }}{% endfor %}{% endif %}x",
    "{% if no %}{% for i in l %}{{ i | from_json }}{% endfor %}{% endif %}x",
    "{% if no %}{% for i in l %}{% if i %}{{ i | from_json }}{% endif %}{% endfor %}{% endif %}x",
    "{% for i in l if i is nothing %}{{ i }}{% endfor %}",
    "{% for i in [] %}{{ i | from_json }}{% endfor %}",
    "{% macro m(a) %}{{ a | from_json }}{% endmacro %}x",
    "{% macro m(a) %}{% if a %}{{ a | from_json }}{% endif %}{% endmacro %}x{{ m(0) }}",
    "{{ n | from_json if no else 'b' }}",
    "{{ 1 if yes else n | from_json }}",
    "{{ 'a' if yes or n is nothing }}",
    "{{ (n | from_json if no else 1) + (n | from_json) }}",
    "{{ [n | from_json if no] }}",
    "{{ s | replace('a', n | from_json) if no else 'c' }}",
    "{% if no %}{% filter from_json %}a{% endfilter %}{% endif %}x",
    "{% if no %}{% filter upper %}{{ n | from_json }}{% endfilter %}{% endif %}x",
]


def main():
    shared = pathlib.Path(sys.argv[1]) / "data" / "tokenizers"
    out = pathlib.Path(__file__).resolve().parent / "chat_template"
    out.mkdir(exist_ok=True)

    def own(name):
        return json.loads((shared / name / "tokenizer_config.json").read_text())["chat_template"]

    llama3_tokens = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    s_tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    qwen_tokens = {"eos_token": "<|im_end|>"}
    # The last column: the built-in template that must give the same for every list of messages without tools.
    rows = [
        ("llama2-tokenizer", own("llama2"), s_tokens, None),
        ("qwen2.5-tokenizer", own("qwen2.5"), qwen_tokens, None),
        ("llama3", LLAMA3, llama3_tokens, "llama3"),
        ("llama3.1", LLAMA31, llama3_tokens, None),
        ("mistral-v0.3", MISTRAL, s_tokens, "mistral-v0.3"),
        ("chatml", CHATML, qwen_tokens, "chatml"),
        ("smollm2", SMOLLM2, qwen_tokens, None),
        ("llama2", LLAMA2, s_tokens, "llama2"),
        ("thinking", THINKING, s_tokens, None),
    ]
    templates = []
    for name, template, tokens, built_in in rows:
        cases = []
        for case in inputs():
            variables = {"tools": None, "documents": None, **tokens, **case}
            cases.append({"input": case, **render(template, variables)})
        templates.append({"name": name, "template": template, "tokens": tokens, "built_in": built_in, "cases": cases})

    def write(name, value):
        text = json.dumps({"jinja2": jinja2.__version__, "now": NOW.strftime("%Y-%m-%dT%H:%M:%S"), **value}, ensure_ascii=False, indent=1)
        (out / name).write_text(text + "\n", encoding="utf-8")

    write("templates.json", {"templates": templates})
    expressions = ["{{ " + expression.strip() + " }}" for expression in ";;".join([EXPRESSIONS, FORMATS, MORE]).split(";;")]
    cases = [{"template": t, **render(t, VARIABLES)} for t in [*expressions, *FALSE_INPUTS, *STATEMENTS]]
    write("expressions.json", {"variables": VARIABLES, "cases": cases})
    print(sum(len(t["cases"]) for t in templates), "renderings,", len(cases), "small templates,",
          sum("error" in c for c in cases), "of them errors")


if __name__ == "__main__":
    main()
