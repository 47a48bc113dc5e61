//! A log stream as JSON lines: what REST answers and `opsctl log tail -o json` prints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::json;
use crate::v1::{LogNoticeKind, TailLogResponse};

/// One document a line of the log, then one for the notice. `kind` is `log_line`, or a control frame: `start`,
/// `rotated`, `truncated`, `gap`, `end`. The last document of a message has the cursor to go on with.
///
/// A text is the log's own, escape sequences and all; where its bytes are no UTF-8, `text_base64` has them as they are.
#[must_use]
pub fn documents(message: &TailLogResponse) -> Vec<Value> {
    let mut documents: Vec<Value> = message
        .lines
        .iter()
        .map(|line| {
            let mut document = json::document("log_line", line);
            if std::str::from_utf8(&line.text).is_err() {
                document["text_base64"] = STANDARD.encode(&line.text).into();
            }
            document
        })
        .collect();
    if let Some(notice) = &message.notice {
        let kind = match notice.kind() {
            LogNoticeKind::Start => "start",
            LogNoticeKind::Rotated => "rotated",
            LogNoticeKind::Truncated => "truncated",
            LogNoticeKind::Gap => "gap",
            LogNoticeKind::End => "end",
            LogNoticeKind::Unspecified => "notice",
        };
        let mut document = json::document(kind, notice);
        // A notice of this version says what it is by `kind`.
        document["kind"] = kind.into();
        documents.push(document);
    }
    if let Some(last) = documents.last_mut() {
        last["cursor"] = message.cursor.clone().into();
    }
    documents
}
