//! Rows of CSV and NDJSON from a piece of a file. Pure: the same bytes are the same rows, wherever a piece ends.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RowFormat)]
pub(crate) enum Format {
    /// RFC 4180 in UTF-8; the first row names the columns.
    Csv,
    /// An object of JSON a line.
    Ndjson,
}

/// Between the tags of one cell.
const TAGS_BETWEEN: char = ';';

/// One row: its fields, or why it has none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Its line in the file; of CSV its record. The first is 1.
    pub number: u64,
    pub fields: Result<Map<String, Value>, String>,
}

/// What a piece holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pub rows: Vec<Row>,
    /// Bytes that they take: the next piece begins behind them.
    pub read: usize,
    /// The names of the columns, when the piece has them.
    pub header: Vec<String>,
    /// Whether these were the last.
    pub is_end: bool,
    /// Why nothing can be read from here on.
    pub problem: Option<String>,
}

/// Reads at most `limit` rows from a piece. `is_last`: the file ends with it; `is_first`: it begins with it.
pub(crate) fn read(bytes: &[u8], is_last: bool, is_first: bool, place: &Place, limit: usize) -> Rows {
    let mark = if is_first && bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }; // which spreadsheets write
    let rest = bytes.get(mark..).unwrap_or_default();
    let mut rows = match place.format {
        Format::Ndjson => lines(rest, is_last, place.row, limit),
        Format::Csv => records(rest, is_last, place, limit),
    };
    rows.read += mark;
    rows.is_end = rows.problem.is_none() && is_last && rows.read == bytes.len();
    if rows.read == mark && !rest.is_empty() && rows.problem.is_none() {
        rows.problem = Some("a row is longer than 1 MiB".to_owned());
    }
    rows
}

/// Where in a file a piece begins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub format: Format,
    /// Rows before it, with the header.
    pub row: u64,
    /// The names of the columns, once they are known.
    pub header: Vec<String>,
}

fn lines(bytes: &[u8], is_last: bool, before: u64, limit: usize) -> Rows {
    let mut out = Rows::default();
    let mut number = before;
    while out.rows.len() < limit {
        let rest = bytes.get(out.read..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        let (line, length) = match end {
            Some(end) => (rest.get(..end).unwrap_or_default(), end + 1),
            None if is_last && !rest.is_empty() => (rest, rest.len()),
            None => break,
        };
        out.read += length;
        number += 1;
        out.rows.push(Row { number, fields: object(line) });
    }
    out
}

/// An empty line is a row without fields, so that its number counts.
fn object(line: &[u8]) -> Result<Map<String, Value>, String> {
    serde_json::from_slice(line).map_err(|error| match line.trim_ascii().is_empty() {
        true => "is empty".to_owned(),
        false => format!("is no JSON object: {error}"),
    })
}

fn records(bytes: &[u8], is_last: bool, place: &Place, limit: usize) -> Rows {
    let mut out = Rows::default();
    let mut header = place.header.clone();
    let mut number = place.row;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    let mut record = csv::ByteRecord::new();
    while out.rows.len() < limit {
        match reader.read_byte_record(&mut record) {
            Ok(true) => {}
            Ok(false) => {
                out.read = bytes.len(); // empty lines at the end
                break;
            }
            Err(error) => {
                out.problem = Some(format!("row {}: {error}", number + 1));
                break;
            }
        }
        let end = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX);
        if end >= bytes.len() && !is_last {
            break; // it may go on in the next piece
        }
        out.read = end;
        number += 1;
        let cells: Option<Vec<&str>> = record.iter().map(|cell| std::str::from_utf8(cell).ok()).collect();
        let Some(cells) = cells else {
            out.rows.push(Row { number, fields: Err("is not UTF-8".to_owned()) });
            continue;
        };
        if header.is_empty() {
            header = cells.iter().map(|name| name.trim().to_owned()).collect();
            out.header.clone_from(&header);
            continue;
        }
        out.rows.push(Row { number, fields: named(&header, &cells) });
    }
    out
}

/// Puts cells under the names of their columns; `alias.crm` is below `alias`, and empty cells are nothing.
fn named(header: &[String], cells: &[&str]) -> Result<Map<String, Value>, String> {
    if cells.len() > header.len() {
        return Err(format!("has {} cells, the header has {}", cells.len(), header.len()));
    }
    let mut fields = Map::new();
    for (name, cell) in header.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
        match name.split_once('.') {
            Some((above, below)) => {
                let object = fields.entry(above).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(object) = object {
                    object.insert(below.to_owned(), (*cell).into());
                }
            }
            None if name == "tags" => {
                let tags =
                    without_guard(cell).split(TAGS_BETWEEN).map(str::trim).filter(|tag| !tag.is_empty());
                fields.insert(name.clone(), tags.collect());
            }
            None if cell.starts_with('{') => {
                let object = serde_json::from_str(cell).map_err(|error| format!("{name}: {error}"))?;
                fields.insert(name.clone(), object);
            }
            None => {
                fields.insert(name.clone(), without_guard(cell).into());
            }
        }
    }
    Ok(fields)
}

/// An apostrophe keeps spreadsheets from taking a text for a formula.
fn without_guard(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|text| text.starts_with(['=', '+', '-', '@'])).unwrap_or(cell)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const CSV: &str = "\u{feff}id,tags,alias.user,city\r\n设1,vip; new,42,\"bj, north\"\r\nd2,,,\nd3,a,b,c,d\n\"d\n4\",x,,\n";
    const NDJSON: &str = "{\"id\":\"a\"}\n\n[1]\r\n{\"id\":\"设\"}";

    fn all(text: &str, format: Format, piece: usize, limit: usize) -> Vec<Row> {
        let bytes = text.as_bytes();
        let (mut at, mut found) = (0, Vec::new());
        let mut place = Place { format, row: 0, header: Vec::new() };
        loop {
            let end = bytes.len().min(at + piece);
            let rows = read(&bytes[at..end], end == bytes.len(), at == 0, &place, limit);
            assert_eq!(rows.problem, None, "{piece} {limit}");
            at += rows.read;
            place.row += rows.rows.len() as u64 + u64::from(!rows.header.is_empty());
            if !rows.header.is_empty() {
                place.header = rows.header;
            }
            found.extend(rows.rows);
            if rows.is_end {
                return found;
            }
        }
    }

    #[test]
    fn rows_are_the_same_wherever_a_piece_ends() {
        let fields = |value: Value| value.as_object().unwrap().clone();
        for (text, format, wanted) in [
            (
                CSV,
                Format::Csv,
                vec![
                    (
                        2,
                        Ok(fields(
                            json!({"id": "设1", "tags": ["vip", "new"], "alias": {"user": "42"}, "city": "bj, north"}),
                        )),
                    ),
                    (3, Ok(fields(json!({"id": "d2"})))),
                    (4, Err("has 5 cells, the header has 4")),
                    (5, Ok(fields(json!({"id": "d\n4", "tags": ["x"]})))),
                ],
            ),
            (
                NDJSON,
                Format::Ndjson,
                vec![
                    (1, Ok(fields(json!({"id": "a"})))),
                    (2, Err("is empty")),
                    (3, Err("is no JSON object: invalid type: sequence, expected a map at line 1 column 0")),
                    (4, Ok(fields(json!({"id": "设"})))),
                ],
            ),
        ] {
            for piece in [50, 60, 64, 1000] {
                for limit in [1, 2, 100] {
                    let found = all(text, format, piece, limit);
                    let numbers: Vec<_> = found.iter().map(|row| row.number).collect();
                    assert_eq!(numbers, wanted.iter().map(|(number, _)| *number).collect::<Vec<_>>());
                    for (row, (_, wanted)) in found.into_iter().zip(&wanted) {
                        assert_eq!(row.fields, wanted.clone().map_err(str::to_owned), "{piece} {limit}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_that_does_not_fit_into_a_piece_ends_the_reading() {
        let place = |format| Place { format, row: 0, header: Vec::new() };
        for format in [Format::Csv, Format::Ndjson] {
            let rows = read("x".repeat(20).as_bytes(), false, true, &place(format), 10);
            assert_eq!(rows.problem.as_deref(), Some("a row is longer than 1 MiB"), "{format:?}");
        }
        let none = read(b"", true, true, &place(Format::Csv), 10);
        assert!(none.is_end && none.rows.is_empty());
    }
}
