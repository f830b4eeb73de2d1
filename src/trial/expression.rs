//! The part of CEL that rules are written in, read in one pass.
//!
//! Literals, `metrics`, `release` and their fields, comparisons, `&&`, `||`, `!` and arithmetic: no
//! functions, macros, lists or maps, so that time and memory grow with the length of the text alone.
//! The CEL library's own parser needs gigabytes for some texts of 125 characters, and these texts are
//! written by tenants; it reads and answers every rule of the tests as this one does.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

/// Longest text, in characters, as the schema has it.
const LONGEST: usize = 512;
/// Deepest nesting of parentheses, brackets and signs.
const DEEPEST: usize = 16;
/// Most literals, names, fields and operators together.
const LARGEST: usize = 100;

/// An expression as it was written; nothing is known of its types yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// Every number is a double: 1 is the same as 1.0.
    Number(f64),
    Text(String),
    Truth(bool),
    Name(String),
    /// `one.field`
    Field(Box<Node>, String),
    /// `one["key"]`
    Index(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Minus(Box<Node>),
    Both(Sign, Box<Node>, Box<Node>),
}

/// An operator with two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Or,
    And,
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Unequal,
    Plus,
    Minus,
    Times,
    Divided,
}

/// All of them: as they are written, and how strongly they bind.
const SIGNS: [(&str, Sign, u8); 12] = [
    ("||", Sign::Or, 1),
    ("&&", Sign::And, 2),
    ("<", Sign::Less, 3),
    ("<=", Sign::AtMost, 3),
    (">", Sign::More, 3),
    (">=", Sign::AtLeast, 3),
    ("==", Sign::Equal, 3),
    ("!=", Sign::Unequal, 3),
    ("+", Sign::Plus, 4),
    ("-", Sign::Minus, 4),
    ("*", Sign::Times, 5),
    ("/", Sign::Divided, 5),
];

/// What is wrong with an expression, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault(pub(super) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Node, Fault> {
    if text.chars().count() > LONGEST {
        return Err(Fault(format!("an expression of at most {LONGEST} characters")));
    }
    let mut reader = Reader {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
        nodes: 0,
    };
    let node = reader.binary(1)?;
    match reader.peek() {
        None => Ok(node),
        Some(token) => Err(Fault(format!(
            "an expression that ends before {}; accepted there are the operators {}",
            token.shown(),
            SIGNS.map(|(text, ..)| text).join(" ")
        ))),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(f64),
    Text(String),
    Word(String),
    Sign(&'static str),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => format!("\"{text}\""),
            Self::Word(word) => word.clone(),
            Self::Sign(sign) => (*sign).to_owned(),
        }
    }
}

/// Everything that is neither a number, a text nor a word; longer ones first.
const MARKS: [&str; 18] = [
    "||", "&&", "<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "!", "(", ")", "[", "]", ".",
];

fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut found = Vec::new();
    let mut left = text.char_indices().peekable();
    while let Some((at, first)) = left.next() {
        let rest = text.get(at..).unwrap_or_default();
        let digit_follows = rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
        found.push(match first {
            ' ' | '\t' | '\r' | '\n' => continue,
            '"' | '\'' => quoted(first, &mut left)?,
            _ if first.is_ascii_digit() || first == '.' && digit_follows => number(rest, &mut left)?,
            _ if first.is_ascii_alphabetic() || first == '_' => {
                let word: String = rest.chars().take_while(|next| in_word(*next)).collect();
                skip(&mut left, word.len() - 1);
                Token::Word(word)
            }
            _ => {
                let Some(mark) = MARKS.into_iter().find(|mark| rest.starts_with(mark)) else {
                    return Err(match first {
                        ',' | '{' | '}' => Fault("an expression without functions, lists and maps".into()),
                        '%' => Fault("an expression without '%'; 10 % is written 0.1".into()),
                        _ => Fault(format!("an expression without {first:?}")),
                    });
                };
                skip(&mut left, mark.len() - 1);
                Token::Sign(mark)
            }
        });
    }
    Ok(found)
}

const fn in_word(next: char) -> bool {
    next.is_ascii_alphanumeric() || next == '_'
}

fn skip(left: &mut Peekable<CharIndices<'_>>, count: usize) {
    for _ in 0..count {
        left.next();
    }
}

fn quoted(quote: char, left: &mut Peekable<CharIndices<'_>>) -> Result<Token, Fault> {
    let mut inside = String::new();
    for (_, next) in left.by_ref() {
        match next {
            _ if next == quote => return Ok(Token::Text(inside)),
            '\\' | '\n' | '\r' => return Err(Fault("text in quotes without \\ and line breaks".into())),
            _ => inside.push(next),
        }
    }
    Err(Fault(format!("text that ends with {quote}, as it begins")))
}

/// Digits, perhaps a point with digits, perhaps an exponent, and nothing that belongs to a word.
fn number(rest: &str, left: &mut Peekable<CharIndices<'_>>) -> Result<Token, Fault> {
    let bytes = rest.as_bytes();
    let is = |at: usize, fits: fn(&u8) -> bool| bytes.get(at).is_some_and(fits);
    let digits = |mut at: usize| {
        while is(at, u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut end = digits(0);
    if is(end, |byte| *byte == b'.') && is(end + 1, u8::is_ascii_digit) {
        end = digits(end + 1);
    }
    if is(end, |byte| matches!(byte, b'e' | b'E')) {
        let signed = end + 1 + usize::from(is(end + 1, |byte| matches!(byte, b'+' | b'-')));
        if is(signed, u8::is_ascii_digit) {
            end = digits(signed);
        }
    }
    let written: String = rest
        .char_indices()
        .take_while(|(at, next)| *at < end || in_word(*next))
        .map(|(_, next)| next)
        .collect();
    skip(left, written.len() - 1);
    match written.parse::<f64>() {
        Ok(number) if written.len() == end && number.is_finite() => Ok(Token::Number(number)),
        _ => Err(Fault(format!("a number like 0.1 or 500 in the place of {written}"))),
    }
}

struct Reader {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
    nodes: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    fn accept(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(sign)) if *sign == mark);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, mark: &str) -> Result<(), Fault> {
        if self.accept(mark) {
            return Ok(());
        }
        let found = self.peek().map_or_else(|| "the end".to_owned(), Token::shown);
        Err(Fault(format!("an expression with {mark} before {found}")))
    }

    fn node(&mut self, node: Node) -> Result<Node, Fault> {
        self.nodes += 1;
        if self.nodes > LARGEST {
            return Err(Fault(format!("an expression of at most {LARGEST} parts")));
        }
        Ok(node)
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(Fault(format!("an expression that nests at most {DEEPEST} deep")));
        }
        let found = inner(self);
        self.depth -= 1;
        found
    }

    /// Operators that bind at least so strongly; those of the same strength from left to right.
    fn binary(&mut self, least: u8) -> Result<Node, Fault> {
        let mut left = self.unary()?;
        loop {
            let Some(Token::Sign(mark)) = self.peek() else {
                return Ok(left);
            };
            let Some((_, sign, strength)) = SIGNS.into_iter().find(|(text, ..)| text == mark) else {
                return Ok(left);
            };
            if strength < least {
                return Ok(left);
            }
            self.next += 1;
            let right = self.binary(strength + 1)?;
            left = self.node(Node::Both(sign, Box::new(left), Box::new(right)))?;
        }
    }

    fn unary(&mut self) -> Result<Node, Fault> {
        for (mark, make) in [("!", Node::Not as fn(Box<Node>) -> Node), ("-", Node::Minus)] {
            if self.accept(mark) {
                let inner = self.nested(Self::unary)?;
                return self.node(make(Box::new(inner)));
            }
        }
        self.member()
    }

    fn member(&mut self) -> Result<Node, Fault> {
        let mut found = self.first()?;
        loop {
            found = if self.accept(".") {
                let Some(Token::Word(field)) = self.take() else {
                    return Err(Fault("the name of a field after the point".into()));
                };
                self.node(Node::Field(Box::new(found), field))?
            } else if self.accept("[") {
                let key = self.nested(|reader| reader.binary(1))?;
                self.expect("]")?;
                self.node(Node::Index(Box::new(found), Box::new(key)))?
            } else if matches!(self.peek(), Some(Token::Sign("("))) {
                return Err(Fault("an expression without functions".into()));
            } else {
                return Ok(found);
            };
        }
    }

    fn first(&mut self) -> Result<Node, Fault> {
        let node = match self.take() {
            Some(Token::Sign("(")) => {
                let inner = self.nested(|reader| reader.binary(1))?;
                self.expect(")")?;
                return Ok(inner);
            }
            Some(Token::Number(number)) => Node::Number(number),
            Some(Token::Text(text)) => Node::Text(text),
            Some(Token::Word(word)) => match word.as_str() {
                "true" => Node::Truth(true),
                "false" => Node::Truth(false),
                _ => Node::Name(word),
            },
            Some(Token::Sign(sign)) => {
                return Err(Fault(format!(
                    "a number, a text in quotes, metrics or release in the place of {sign}"
                )));
            }
            None => return Err(Fault("an expression that goes on after its last operator".into())),
        };
        self.node(node)
    }
}
