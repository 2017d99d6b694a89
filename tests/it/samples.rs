//! Requests and answers as real clients and the API exchange them.

/// A small request.
pub const REQUEST: &[u8] =
    br#"{"model":"claude-sonnet-4-5","max_tokens":64,"messages":[{"role":"user","content":"Say \u4f60\u597d"}]}"#;

/// The same, to be streamed. Its odd spacing must survive.
pub const STREAM_REQUEST: &[u8] =
    b"{ \"stream\" :true,\"model\":\"claude-sonnet-4-5\",\n \"max_tokens\":64,\"messages\":[{\"role\":\"user\",\"content\":\"\xe4\xbd\xa0\xe5\xa5\xbd\"}] }";

/// A whole answer with every kind of token.
pub fn message(model: &str, input: u64, output: u64) -> String {
    format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"{model}","content":[{{"type":"text","text":"你好 🙂"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":{input},"cache_creation_input_tokens":30,"cache_read_input_tokens":40,"cache_creation":{{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20}},"output_tokens":{output},"service_tier":"standard"}}}}"#
    )
}

/// The events of a streamed answer.
pub fn events(model: &str, input: u64, output: u64) -> Vec<String> {
    let event = |name: &str, data: String| format!("event: {name}\ndata: {data}\n\n");
    vec![
        event(
            "message_start",
            format!(
                r#"{{"type":"message_start","message":{{"id":"msg_2","type":"message","role":"assistant","model":"{model}","content":[],"stop_reason":null,"stop_sequence":null,"usage":{{"input_tokens":{input},"cache_creation_input_tokens":30,"cache_read_input_tokens":40,"cache_creation":{{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20}},"output_tokens":1,"service_tier":"standard"}}}}}}"#
            ),
        ),
        event(
            "content_block_start",
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.into(),
        ),
        event("ping", r#"{"type": "ping"}"#.into()),
        event(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"你好"}}"#.into(),
        ),
        event(
            "content_block_delta",
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" 🙂"}}"#.into(),
        ),
        event("content_block_stop", r#"{"type":"content_block_stop","index":0}"#.into()),
        event(
            "message_delta",
            format!(
                r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{output}}}}}"#
            ),
        ),
        event("message_stop", r#"{"type":"message_stop"}"#.into()),
    ]
}
