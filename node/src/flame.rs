//! A flame graph: stacks as one picture, in SVG that needs nothing else. The width of a box is its share of the
//! samples, what it calls stands upon it, siblings are in alphabetical order; the pointer tells a box in full, and a
//! click makes it as wide as the picture. Pure.

use std::fmt::Write;

use ashlar_io::profile::Folded;

const WIDTH: f64 = 1200.0;
const ROW: usize = 17;
/// Rows above the boxes: the title, and what the colours mean.
const HEAD_ROWS: usize = 3;
/// Boxes that would be narrower are left out.
const NARROWEST: f64 = 0.2;
/// Width of a character.
const CHARACTER: f64 = 6.7;
/// Characters of a box that is not wide enough for the whole name.
const SHORTEST: f64 = 3.0;

/// What a function belongs to, by how its name begins; and its colour.
const OWNERS: [(&str, &str, &str); 5] = [
    ("ashlar_node", "node", "#f4a261"),
    ("ashlar_partition", "partition", "#e9c46a"),
    ("ashlar_io", "io", "#8ecae6"),
    ("ashlar_consensus", "consensus", "#b5a7e0"),
    ("", "libraries and kernel", "#cfd4d9"),
];

/// Has a click make a box as wide as the picture, and one outside all boxes undo that.
const SCRIPT: &str = include_str!("flame.js");

/// A function in one place of the tree of stacks.
struct Place<'a> {
    name: &'a str,
    depth: usize,
    /// Samples that lie left of it, and in it.
    from: u64,
    samples: u64,
}

/// Draws stacks, which come in order.
#[must_use]
pub fn svg(title: &str, stacks: &[Folded]) -> String {
    let total: u64 = stacks.iter().map(|(_, samples)| samples).sum();
    let deepest = stacks.iter().map(|(stack, _)| stack.len()).max();
    let height = (deepest.unwrap_or(0) + HEAD_ROWS + 1) * ROW;
    let mut out = String::new();
    head(&mut out, (title, total), height);
    for place in places(stacks) {
        draw(&mut out, &place, total, height);
    }
    writeln!(
        out,
        "</g><script type=\"text/javascript\"><![CDATA[{SCRIPT}]]></script></svg>"
    )
    .expect("a string takes all");
    out
}

fn head(out: &mut String, (title, total): (&str, u64), height: usize) {
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" \
         font-size=\"11\"><style>g.box{{cursor:pointer}}g.box:hover rect{{stroke:#222}}</style>\
         <rect id=\"ground\" width=\"100%\" height=\"100%\" fill=\"#fff\"/>\
         <text x=\"4\" y=\"14\" font-size=\"13\">{}: {total} samples</text>",
        escaped(title)
    )
    .expect("a string takes all");
    let mut x = 4;
    for (_, owner, colour) in OWNERS {
        writeln!(
            out,
            "<rect x=\"{x}\" y=\"24\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"34\">{owner}</text>",
            x + 16
        )
        .expect("a string takes all");
        x += 40 + owner.len() * 7;
    }
    out.push_str("<g id=\"boxes\">\n");
}

/// Returns the tree of the stacks, each box before those upon it.
fn places(stacks: &[Folded]) -> Vec<Place<'_>> {
    let mut places: Vec<Place<'_>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let (mut before, mut from): (&[String], u64) = (&[], 0);
    for (stack, samples) in stacks {
        let same = before.iter().zip(stack).take_while(|(a, b)| a == b).count();
        open.truncate(same);
        for (depth, name) in stack.iter().enumerate().skip(same) {
            open.push(places.len());
            places.push(Place {
                name,
                depth,
                from,
                samples: 0,
            });
        }
        open.iter()
            .for_each(|place| places[*place].samples += samples);
        (before, from) = (stack, from + samples);
    }
    places
}

fn draw(out: &mut String, place: &Place<'_>, total: u64, height: usize) {
    let share = |samples: u64| samples as f64 / total.max(1) as f64;
    let (x, width) = (share(place.from) * WIDTH, share(place.samples) * WIDTH);
    if width < NARROWEST {
        return;
    }
    let y = height - (place.depth + 1) * ROW;
    let name = escaped(place.name);
    writeln!(
        out,
        "<g class=\"box\" data-x=\"{x:.2}\" data-w=\"{width:.2}\" data-d=\"{}\">\
         <title>{name}: {} samples, {:.2} %</title>\
         <rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"16\" fill=\"{}\" rx=\"1\"/>\
         <text x=\"{:.2}\" y=\"{}\">{}</text></g>",
        place.depth,
        place.samples,
        share(place.samples) * 100.0,
        colour_of(place.name),
        x + 2.0,
        y + 12,
        escaped(&shortened(place.name, width)),
    )
    .expect("a string takes all");
}

/// Returns as much of the end of a name as a box has room for: what it begins with, the others begin with too.
fn shortened(name: &str, width: f64) -> String {
    let room = (width - 4.0) / CHARACTER;
    let length = name.chars().count();
    if room < SHORTEST {
        return String::new();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least SHORTEST, at most the width of the picture"
    )]
    let room = room as usize;
    match length <= room {
        true => name.to_owned(),
        false => format!(
            "…{}",
            name.chars().skip(length - room + 1).collect::<String>()
        ),
    }
}

fn colour_of(name: &str) -> &'static str {
    let name = name.trim_start_matches('<');
    let owner = OWNERS.iter().find(|(begin, ..)| name.starts_with(begin));
    owner.map_or("#cfd4d9", |(_, _, colour)| colour)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(names: &str, samples: u64) -> Folded {
        (names.split(' ').map(str::to_owned).collect(), samples)
    }

    #[test]
    fn boxes_stand_upon_those_that_call_them() {
        let stacks = [
            stack("t a", 1),
            stack("t a b", 2),
            stack("t a c", 3),
            stack("t d a", 4),
            stack("u a", 5),
        ];
        let places = places(&stacks);
        let told: Vec<_> = places
            .iter()
            .map(|place| (place.name, place.depth, place.from, place.samples))
            .collect();
        let wanted = [
            ("t", 0, 0, 10),
            ("a", 1, 0, 6),
            ("b", 2, 1, 2),
            ("c", 2, 3, 3),
            ("d", 1, 6, 4),
            ("a", 2, 6, 4),
            ("u", 0, 10, 5),
            ("a", 1, 10, 5),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn names_are_text_and_not_markup() {
        let picture = svg("a & b", &[stack("shard-0 <T>::run", 7)]);
        assert!(picture.contains("a &amp; b: 7 samples"));
        assert!(picture.contains("<title>&lt;T&gt;::run: 7 samples, 100.00 %</title>"));
        assert!(!picture.contains("<T>"));
        let opened = picture.matches("<g ").count();
        assert_eq!(opened, picture.matches("</g>").count());
    }

    #[test]
    fn nothing_met_is_an_empty_picture() {
        let picture = svg("idle", &[]);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("idle: 0 samples") && !picture.contains("class=\"box\""));
    }

    #[test]
    fn a_long_name_keeps_its_end() {
        assert_eq!(shortened("ashlar_io::wal::append", 80.0), "…al::append");
        assert_eq!(shortened("append", 80.0), "append");
        assert_eq!(shortened("append", 10.0), "");
    }
}
