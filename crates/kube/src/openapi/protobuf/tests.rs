use super::*;
use crate::openapi;
use crate::protobuf::wire::{Reader, Scalar};
use serde_json::json;

/// A message read back by the same table: what it wrote must be what a reader of gnostic's messages finds.
fn decode(message: &Message, bytes: &[u8]) -> Value {
    let mut reader = Reader(bytes);
    let mut out = Map::new();
    let mut list: Vec<Value> = Vec::new();
    while let Some((number, scalar)) = reader.field().expect("a field") {
        match message {
            Message::Fields(_, extension) | Message::Pairs(_, _, extension)
                if *extension == number && number != 0 =>
            {
                let (name, value) = decode_pair(Shape::Any, scalar);
                out.insert(name, value);
            }
            Message::Fields(fields, _) => {
                let (key, _, shape) = fields.iter().find(|(_, n, _)| *n == number).expect("a known field");
                match shape {
                    Shape::Each(shape) => {
                        let list = out.entry(*key).or_insert_with(|| json!([]));
                        list.as_array_mut().expect("a list").push(decode_shape(**shape, scalar));
                    }
                    shape => assert!(
                        out.insert((*key).into(), decode_shape(*shape, scalar)).is_none(),
                        "{key} once"
                    ),
                }
            }
            Message::Pairs(pair, shape, _) => {
                assert_eq!(*pair, number);
                let (name, value) = decode_pair(*shape, scalar);
                out.insert(name, value);
            }
            // Every choice is tried: the one that chooses this number again is the one that was written.
            Message::OneOf(choose) => return decode_choice(*choose, number, scalar),
            Message::Repeated(n, shape) => {
                assert_eq!(*n, number);
                list.push(decode_shape(*shape, scalar));
            }
        }
    }
    match message {
        Message::Repeated(..) if list.len() == 1 => list.remove(0),
        Message::Repeated(..) => Value::Array(list),
        // A default that is no scalar.
        Message::OneOf(_) => json!({}),
        _ => Value::Object(out),
    }
}

/// What a choice can lead to, told by examples of all of them.
fn decode_choice(choose: fn(&Value) -> Option<(u32, Shape)>, number: u32, scalar: Scalar<'_>) -> Value {
    let examples = [
        json!({"$ref": ""}),
        json!({}),
        json!({"in": "body"}),
        json!({"in": "path"}),
        json!({"in": "query"}),
        json!(true),
        json!("a"),
        json!(1),
    ];
    let mut shapes = examples.iter().filter_map(choose).filter(|(n, _)| *n == number);
    let (_, shape) = shapes.next_back().expect("a known choice");
    decode_shape(shape, scalar)
}

fn decode_pair(shape: Shape, scalar: Scalar<'_>) -> (String, Value) {
    let mut reader = Reader(scalar.bytes().expect("a pair"));
    let (name, value) = (reader.field().expect("a name"), reader.field().expect("a value"));
    let ((1, name), (2, value)) = (name.expect("a name"), value.expect("a value")) else {
        panic!("a name and a value")
    };
    assert!(reader.field().expect("the end").is_none());
    (name.text().expect("text").to_owned(), decode_shape(shape, value))
}

fn decode_shape(shape: Shape, scalar: Scalar<'_>) -> Value {
    match (shape, scalar) {
        (Shape::Text, scalar) => json!(scalar.text().expect("text")),
        (Shape::Bool, Scalar::Varint(n)) => json!(n == 1),
        (Shape::Int, Scalar::Varint(n)) => json!(n as i64),
        (Shape::Number, Scalar::Fixed64(bits)) => {
            let n = f64::from_bits(bits);
            if n.fract() == 0.0 { json!(n as i64) } else { json!(n) }
        }
        (Shape::Any, scalar) => {
            let mut reader = Reader(scalar.bytes().expect("any"));
            let (number, text) = reader.field().expect("a field").expect("text");
            assert_eq!(number, YAML_FIELD);
            serde_json::from_str(text.text().expect("text")).expect("JSON")
        }
        (Shape::Of(message), scalar) => decode(message, scalar.bytes().expect("a message")),
        (shape, scalar) => panic!("{} for {scalar:?}", matches!(shape, Shape::Each(_))),
    }
}

/// What protobuf does not tell: that a value is empty or false, and what a default of v3 was if it was no scalar.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(k, v)| {
                *k == "default" || !(v.as_array().is_some_and(Vec::is_empty) || *v == false || *v == "")
            });
            kept.map(|(k, v)| (k.clone(), plain(v))).collect::<Map<_, _>>().into()
        }
        Value::Array(list) => list.iter().map(plain).collect(),
        other => other.clone(),
    }
}

#[test]
fn every_document_is_the_same_in_protobuf() {
    let json = |document: &openapi::Document| -> Value {
        plain(&serde_json::from_slice(&document.bytes).expect("JSON"))
    };
    let v2 = openapi::v2_protobuf();
    assert_eq!(v2.hash, openapi::v2().hash);
    let (read, mut want) = (plain(&decode(&v2::DOCUMENT, &v2.bytes)), json(openapi::v2()));
    // An empty list of scopes is none that is told.
    want["security"] = json!([{}]);
    for (name, definition) in want["definitions"].as_object().expect("definitions") {
        assert_eq!(&read["definitions"][name], definition, "{name}");
    }
    for (path, item) in want["paths"].as_object().expect("paths") {
        assert_eq!(&read["paths"][path], item, "{path}");
    }
    for key in ["swagger", "info", "security", "securityDefinitions"] {
        assert_eq!(read[key], want[key], "{key}");
    }
    for gv in crate::resource::resources().group_versions() {
        let path = openapi::v3_path(*gv);
        let (v3, want) = (openapi::v3_protobuf(&path).expect("v3"), openapi::v3_document(&path).expect("v3"));
        assert_eq!(v3.hash, want.hash);
        assert_eq!(plain(&decode(&v3::DOCUMENT, &v3.bytes)), json(want), "{path}");
    }
}

#[test]
fn a_schema_is_written_to_the_byte() {
    let schema = json!({"type": "object", "x-kubernetes-map-type": "atomic",
        "properties": {"a": {"$ref": "#/definitions/b"}}, "default": {}});
    let Shape::Of(message) = v2::DEFINITION.shape else { panic!("a message") };
    let bytes = |number, value: &[u8]| {
        let mut out = Vec::new();
        put_bytes(&mut out, number, value);
        out
    };
    let property = [bytes(1, b"a"), bytes(2, &bytes(1, b"#/definitions/b"))].concat();
    let extension = [bytes(1, b"x-kubernetes-map-type"), bytes(2, &bytes(2, b"\"atomic\"\n"))].concat();
    let want = [
        bytes(5, &bytes(2, b"{}\n")),
        bytes(22, &bytes(1, b"object")),
        bytes(25, &bytes(1, &property)),
        bytes(31, &extension),
    ];
    assert_eq!(encode(message, &schema), want.concat());
}
