//! Request and response heads.

use std::io::{self, BufRead};

/// A message head: its first line and the headers that matter here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Head {
    /// The request or status line.
    pub line: String,
    /// Content-Length, 0 without one.
    pub length: u64,
    /// Whether `Connection: close` was said.
    pub close: bool,
    /// Whether `Expect: 100-continue` was said (curl does, before a large upload).
    pub expects_continue: bool,
}

/// Reads one head, or `None` at a clean end of the stream.
pub(super) fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut head = Head { line: line.trim_end().to_owned(), length: 0, close: false, expects_continue: false };
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            return Ok(Some(head));
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().map_err(io::Error::other)?,
            "connection" => head.close = value.eq_ignore_ascii_case("close"),
            "expect" => head.expects_continue = value.eq_ignore_ascii_case("100-continue"),
            _ => {}
        }
    }
}

/// An answer held in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).trim_end().to_owned()
    }

    /// The first word of the body: the name of the server that answered, for the path `/`.
    pub fn server(&self) -> String {
        self.text().split_whitespace().next().unwrap_or_default().to_owned()
    }
}
