//! Expressions in CEL, read as far as it takes to store them: what does not parse, what names nothing, and what is plainly of
//! another type than is wanted is refused in the words of the stock server's compiler.
//!
//! Nothing is evaluated here, and members and overloads are not looked up. Reading is bounded by the length of the text and by
//! how deep it nests, and never panics: expressions come from whoever may write a policy.

mod token;

pub(crate) use token::RESERVED;

use token::{Kind, Token};

/// How deep an expression may nest, as in the stock parser.
const DEPTH_MAX: usize = 250;
/// Beyond this an expression is not looked into; the places that bound their expressions have bounds of their own.
const BYTES_MAX: usize = 100_000;

/// What an expression comes to, where that can be told from its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int,
    Uint,
    Double,
    Text,
    Bytes,
    Null,
    List,
    Map,
    /// Not told.
    Dyn,
}

impl Type {
    /// What the compiler calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::Text => "string",
            Type::Bytes => "bytes",
            Type::Null => "null_type",
            Type::List => "list",
            Type::Map => "map",
            Type::Dyn => "dyn",
        }
    }
}

impl Type {
    /// What the compiler calls it, with what it holds as far as that is told here.
    pub(crate) fn whole_name(self) -> &'static str {
        match self {
            Type::List => "list(dyn)",
            Type::Map => "map(dyn, dyn)",
            other => other.name(),
        }
    }
}

/// Words that stand for no variable: types, and what the libraries put their functions behind.
const KNOWN: [&str; 30] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "null_type",
    "type",
    "dyn",
    "google",
    "math",
    "optional",
    "optional_type",
    "sets",
    "cel",
    "ip",
    "cidr",
    "base64",
    "strings",
    "format",
    "regex",
    "lists",
    "semver",
    "quantity",
    "url",
    "Object",
    "JSONPatch",
    "jsonpatch",
];

/// How much is told of what is wrong with an expression, in parts of its length and beyond those: each fault repeats the line that
/// it is in, and a request may hold many expressions.
const TOLD_PARTS_MAX: usize = 4;
const TOLD_BYTES_MAX: usize = 2 * 1024;
/// How many faults of an expression are told, as by the stock compiler, which counts the others.
const FAULTS_MAX: usize = 100;

const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Reads an expression in which the given variables are declared: what it comes to, or what is wrong with it.
pub(crate) fn compile(text: &str, declared: &[&str]) -> Result<Type, String> {
    if text.len() > BYTES_MAX {
        return Ok(Type::Dyn);
    }
    let chars: Vec<char> = text.chars().collect();
    let tokens = token::read(&chars).map_err(|e| told(&chars, &[e]))?;
    let mut parser =
        Parser { tokens: &tokens, at: 0, depth: 0, declared, locals: Vec::new(), unknown: Vec::new() };
    let found = parser.expression().and_then(|ty| {
        let rest = parser.peek();
        match rest.kind {
            Kind::End => Ok(ty),
            _ => {
                let how = if parser.tokens.len() - parser.at <= 2 { "extraneous" } else { "mismatched" };
                Err((rest.at, format!("Syntax error: {how} input '{}' expecting <EOF>", rest.text)))
            }
        }
    });
    match found {
        Err(e) => Err(told(&chars, &[e])),
        Ok(_) if !parser.unknown.is_empty() => Err(told(&chars, &parser.unknown)),
        Ok(ty) => Ok(ty),
    }
}

/// A place in the text and what is wrong there.
type Fault = (usize, String);

/// Faults as the compiler shows them, with the line and a mark below it: the first, and as many more as there is room for.
fn told(chars: &[char], faults: &[Fault]) -> String {
    let mut out = String::new();
    let most = TOLD_PARTS_MAX * chars.len() + TOLD_BYTES_MAX;
    let mut others = faults.len();
    for (at, what) in &faults[..faults.len().min(FAULTS_MAX)] {
        if out.len() > most {
            break;
        }
        others -= 1;
        if !out.is_empty() {
            out.push('\n');
        }
        let at = (*at).min(chars.len());
        let start = chars[..at].iter().rposition(|c| *c == '\n').map_or(0, |i| i + 1);
        let end = chars[start..].iter().position(|c| *c == '\n').map_or(chars.len(), |i| start + i);
        let line = 1 + chars[..start].iter().filter(|c| **c == '\n').count();
        let shown: String = chars[start..end].iter().collect();
        let column = at - start;
        out.push_str(&format!(
            "ERROR: <input>:{line}:{}: {what}\n | {}\n | {}^",
            column + 1,
            shown.replace('\t', " "),
            ".".repeat(column)
        ));
    }
    if others > 0 {
        out.push_str(&format!("\n{others} more errors were truncated"));
    }
    out
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    declared: &'a [&'a str],
    /// Variables of the macros around.
    locals: Vec<String>,
    unknown: Vec<Fault>,
}

/// How many variables a macro binds at most: `transformMap` a key and a value.
const VARIABLES_MAX: usize = 2;

/// What binds a variable for its last argument.
const MACROS: [&str; 13] = [
    "all",
    "exists",
    "exists_one",
    "existsOne",
    "map",
    "filter",
    "transformList",
    "transformMap",
    "transformMapEntry",
    "optMap",
    "optFlatMap",
    "bind",
    "sortBy",
];

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn is(&self, text: &str) -> bool {
        let token = self.peek();
        token.kind == Kind::Sign && token.text == text
    }

    fn take(&mut self, text: &str) -> bool {
        let is = self.is(text);
        self.at += usize::from(is);
        is
    }

    fn expect(&mut self, text: &str) -> Result<(), Fault> {
        if self.take(text) { Ok(()) } else { Err(self.mismatch(&format!("'{text}'"))) }
    }

    fn mismatch(&self, wanted: &str) -> Fault {
        let token = self.peek();
        let shown = if token.kind == Kind::End { "<EOF>" } else { &token.text };
        (token.at, format!("Syntax error: mismatched input '{shown}' expecting {wanted}"))
    }

    fn expression(&mut self) -> Result<Type, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err((0, format!("expression recursion limit exceeded: {DEPTH_MAX}")));
        }
        let condition = self.either(0)?;
        let ty = if self.take("?") {
            let yes = self.either(0)?;
            self.expect(":")?;
            let no = self.expression()?;
            if yes == no { yes } else { Type::Dyn }
        } else {
            condition
        };
        self.depth -= 1;
        Ok(ty)
    }

    /// Operators by how tightly they bind, loosest first.
    fn either(&mut self, level: usize) -> Result<Type, Fault> {
        const LEVELS: [&[&str]; 5] =
            [&["||"], &["&&"], &["<=", ">=", "==", "!=", "<", ">", "in"], &["+", "-"], &["*", "/", "%"]];
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.either(level + 1)?;
        loop {
            let token = self.peek();
            let is_sign = token.kind == Kind::Sign || (token.kind == Kind::Word && token.text == "in");
            if !is_sign || !signs.contains(&token.text.as_str()) {
                return Ok(left);
            }
            self.at += 1;
            let right = self.either(level + 1)?;
            left = match level {
                0..=2 => Type::Bool,
                _ if left == right => left,
                _ => Type::Dyn,
            };
        }
    }

    fn unary(&mut self) -> Result<Type, Fault> {
        let (mut not, mut minus) = (false, false);
        loop {
            if !minus && self.take("!") {
                not = true;
            } else if !not && self.take("-") {
                minus = true;
            } else {
                break;
            }
        }
        let ty = self.member()?;
        Ok(if not { Type::Bool } else { ty })
    }

    fn member(&mut self) -> Result<Type, Fault> {
        let mut ty = self.primary()?;
        loop {
            if self.take(".") {
                self.take("?");
                let name = self.peek().clone();
                if !matches!(name.kind, Kind::Word | Kind::Quoted) {
                    return Err(self.mismatch("{IDENTIFIER, ESC_IDENTIFIER}"));
                }
                self.at += 1;
                ty = if self.take("(") { self.call(&name.text)? } else { Type::Dyn };
            } else if self.take("[") {
                self.take("?");
                self.expression()?;
                self.expect("]")?;
                ty = Type::Dyn;
            } else if self.is("{") && self.at > 0 && self.tokens[self.at - 1].kind == Kind::Word {
                self.at += 1;
                self.entries("}", Kind::Word)?;
                ty = Type::Dyn;
            } else {
                return Ok(ty);
            }
        }
    }

    /// The arguments of a call, whose bracket is open.
    fn call(&mut self, name: &str) -> Result<Type, Fault> {
        let depth = self.locals.len();
        if MACROS.contains(&name) {
            // All arguments but the last may name variables, of which no macro has more.
            while self.locals.len() - depth < VARIABLES_MAX
                && self.peek().kind == Kind::Word
                && self.tokens.get(self.at + 1).is_some_and(|t| t.kind == Kind::Sign && t.text == ",")
            {
                self.locals.push(self.peek().text.clone());
                self.at += 2;
            }
        }
        if !self.take(")") {
            loop {
                self.expression()?;
                if !self.take(",") {
                    break;
                }
            }
            self.expect(")")?;
        }
        self.locals.truncate(depth);
        Ok(match name {
            "has" | "matches" | "startsWith" | "endsWith" | "contains" | "all" | "exists" | "exists_one"
            | "existsOne" | "bool" => Type::Bool,
            "size" | "indexOf" | "lastIndexOf" | "int" => Type::Int,
            "string" | "lowerAscii" | "upperAscii" | "trim" | "join" | "replace" => Type::Text,
            _ => Type::Dyn,
        })
    }

    /// What stands between brackets: values, or pairs of a key and a value.
    fn entries(&mut self, close: &str, keys: Kind) -> Result<(), Fault> {
        while !self.take(close) {
            self.take("?");
            if keys == Kind::Word {
                if !matches!(self.peek().kind, Kind::Word | Kind::Quoted) {
                    return Err(self.mismatch("IDENTIFIER"));
                }
                self.at += 1;
            } else {
                self.expression()?;
            }
            if close == "}" {
                self.expect(":")?;
                self.expression()?;
            }
            if !self.take(",") {
                return self.expect(close);
            }
        }
        Ok(())
    }

    fn primary(&mut self) -> Result<Type, Fault> {
        let token = self.peek().clone();
        self.take(".");
        let name = self.peek().clone();
        match name.kind {
            Kind::Int | Kind::Uint | Kind::Float | Kind::Text | Kind::Bytes if token == name => {
                self.at += 1;
                Ok(match name.kind {
                    Kind::Int => Type::Int,
                    Kind::Uint => Type::Uint,
                    Kind::Float => Type::Double,
                    Kind::Text => Type::Text,
                    _ => Type::Bytes,
                })
            }
            Kind::Word => self.word(&name),
            _ if token != name => Err(self.mismatch("IDENTIFIER")),
            _ if self.take("(") => {
                let ty = self.expression()?;
                self.expect(")")?;
                Ok(ty)
            }
            _ if self.take("[") => self.entries("]", Kind::End).map(|()| Type::List),
            _ if self.take("{") => self.entries("}", Kind::End).map(|()| Type::Map),
            _ => Err(self.mismatch(OPERAND)),
        }
    }

    fn word(&mut self, name: &Token) -> Result<Type, Fault> {
        match name.text.as_str() {
            "true" | "false" => {
                self.at += 1;
                return Ok(Type::Bool);
            }
            "null" => {
                self.at += 1;
                return Ok(Type::Null);
            }
            "in" => return Err(self.mismatch(OPERAND)),
            reserved if RESERVED.contains(&reserved) => {
                return Err((name.at, format!("reserved identifier: {reserved}")));
            }
            _ => {}
        }
        self.at += 1;
        if self.take("(") {
            return self.call(&name.text);
        }
        let known = self.declared.contains(&name.text.as_str())
            || KNOWN.contains(&name.text.as_str())
            || self.locals.contains(&name.text);
        if !known {
            let what = format!("undeclared reference to '{}' (in container '')", name.text);
            self.unknown.push((name.at, what));
        }
        Ok(Type::Dyn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_expression_is_read() {
        for (text, ty) in [
            ("true", Type::Bool),
            ("1 + 2 * -3", Type::Int),
            ("'a' + \"b\"", Type::Text),
            ("object.spec.replicas <= 5 && has(object.metadata.labels)", Type::Bool),
            ("object.spec.containers.all(c, c.image.startsWith('a/')) ? [1] : []", Type::List),
            ("object.a[0].b['c'].?d.orValue({'x': 1u, 2: b'y'})", Type::Dyn),
            ("object.items.map(x, x > 1, x * 2).exists(y, y in [1, 2])", Type::Bool),
            ("cel.bind(v, object.x, v + v)", Type::Dyn),
            ("Object{spec: Object.spec{replicas: 3}}", Type::Dyn),
            ("r'\\d+' == '''a\nb'''", Type::Bool),
            ("object.`a-b` // so it is", Type::Dyn),
            ("0x1F > 1.5e3 || !(1 == 2)", Type::Bool),
        ] {
            assert_eq!(compile(text, &["object"]), Ok(ty), "{text}");
        }
    }

    #[test]
    fn a_wall_of_faults_is_told_in_part() {
        let wall = vec!["a"; 5_000].join("+");
        let told = compile(&wall, &[]).unwrap_err();
        assert!(told.starts_with("ERROR: <input>:1:1: undeclared reference to 'a'"), "{}", &told[..80]);
        assert!(told.len() < 2 * (TOLD_PARTS_MAX * wall.len() + TOLD_BYTES_MAX), "{}", told.len());
        let untold = 5_000 - told.matches("ERROR").count();
        assert!(told.ends_with(&format!("\n{untold} more errors were truncated")), "{untold}");
    }

    #[test]
    fn what_is_none_is_told_where_and_why() {
        let operand = |text: &str, at: usize, what: &str| {
            format!(
                "ERROR: <input>:1:{}: Syntax error: mismatched input '{what}' expecting {OPERAND}\n | {text}\n | {}^",
                at + 1,
                ".".repeat(at)
            )
        };
        assert_eq!(compile("1 +", &[]), Err(operand("1 +", 3, "<EOF>")));
        assert_eq!(compile("a(,)", &[]), Err(operand("a(,)", 2, ",")));
        for (text, want) in [
            ("1 2", "ERROR: <input>:1:3: Syntax error: extraneous input '2' expecting <EOF>\n | 1 2\n | ..^"),
            ("(1", "ERROR: <input>:1:3: Syntax error: mismatched input '<EOF>' expecting ')'\n | (1\n | ..^"),
            ("1 # 2", "ERROR: <input>:1:3: Syntax error: token recognition error at: '#'\n | 1 # 2\n | ..^"),
            ("foo", "ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')\n | foo\n | ^"),
            (
                "object &&\n x",
                "ERROR: <input>:2:2: undeclared reference to 'x' (in container '')\n |  x\n | .^",
            ),
            ("for", "ERROR: <input>:1:1: reserved identifier: for\n | for\n | ^"),
        ] {
            assert_eq!(compile(text, &["object"]), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn hostile_text_is_refused_and_no_more() {
        for open in ["(", "[", "{", "!", "-", "a.", "a(", "1?", "1?1:", "'", "'''", "\\", "[[1,"] {
            let text = open.repeat(20_000);
            assert!(compile(&text, &["a"]).is_err(), "{open}");
        }
    }
}
