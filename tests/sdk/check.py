"""Drives a relay with the official Python SDK, as its users do. Arguments: base URL, key."""

import sys

import anthropic

base_url, key = sys.argv[1:]
REQUEST = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "Say 你好"}],
}


def check(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**REQUEST)
    assert message.content[0].text == "你好 🙂", message
    assert (message.usage.input_tokens, message.usage.output_tokens) == (11, 7), message.usage
    assert message._request_id == "req_json", message._request_id
    with client.messages.stream(**REQUEST) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == "你好 🙂", text
    assert final.stop_reason == "end_turn", final
    assert (final.usage.input_tokens, final.usage.output_tokens) == (11, 7), final.usage
    events = [event.type for event in client.messages.create(**REQUEST, stream=True)]
    assert events[0] == "message_start" and events[-1] == "message_stop", events


check(anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0))
check(anthropic.Anthropic(base_url=base_url, api_key=None, auth_token=key, max_retries=0))

stranger = anthropic.Anthropic(base_url=base_url, api_key="cr_unknown-key", max_retries=0)
try:
    stranger.messages.create(**REQUEST)
except anthropic.AuthenticationError as error:
    assert "API key not found" in str(error), error
else:
    raise AssertionError("a stranger was served")

cut = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0)
try:
    with cut.messages.stream(**REQUEST, extra_headers={"x-cut": "1"}) as stream:
        stream.get_final_message()
except anthropic.APIStatusError as error:
    assert error.body["error"]["type"] == "api_error", error.body
else:
    raise AssertionError("a cut stream looked whole")
print("python sdk ok")
