//! The shallow view of a request, and the conversation it belongs to.
#![no_main]

use claude_relay::claude::request::Shallow;
use claude_relay::claude::session;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(shallow) = Shallow::read(body) else { return };
    if let Some(at) = &shallow.model_at {
        // What stands there is the text that was read.
        let written = std::str::from_utf8(&body[at.clone()]).expect("text");
        assert!(written.starts_with('"') && written.ends_with('"'));
    }
    let conversation = session::conversation(1, None, shallow.user_id.as_deref(), body);
    assert_eq!(conversation, session::conversation(1, None, shallow.user_id.as_deref(), body));
    assert!(conversation.is_none() || conversation != session::conversation(2, None, shallow.user_id.as_deref(), body));
    session::has_thinking(body);
});
