//! Draws cumulative distributions as SVG.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 52.0;
const COLOURS: [&str; 4] = ["#0a7d5a", "#c2410c", "#1d4ed8", "#7c3aed"];

/// Returns an SVG image with one curve for each name, over a logarithmic axis of milliseconds.
pub fn draw(title: &str, curves: &[(String, Vec<f64>)]) -> String {
    let all = || curves.iter().flat_map(|(_, times)| times.iter().copied());
    let low = 10_f64.powf(all().fold(f64::MAX, f64::min).log10().floor());
    let high = 10_f64.powf(all().fold(1.0, f64::max).log10().ceil());
    let x = |ms: f64| {
        let share = (ms / low).log10() / (high / low).log10();
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    };
    let y = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"13\">\n\
         <style>text {{ fill: #1f2328 }} .grid {{ stroke: #d0d7de }} .back {{ fill: #ffffff }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} .grid {{ stroke: #30363d }} \
         .back {{ fill: #0d1117 }} }}</style>\n\
         <rect class=\"back\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"8\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\" font-weight=\"600\">{title}</text>\n"
    );
    for percent in [0, 25, 50, 75, 100] {
        let at = y(f64::from(percent) / 100.0);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent} %</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
        );
    }
    let mut ms = low;
    while ms <= high * 1.01 {
        for step in [1.0, 2.0, 5.0] {
            let tick = ms * step;
            if tick > high * 1.01 {
                break;
            }
            let label = if tick >= 1000.0 {
                format!("{} s", tick / 1000.0)
            } else {
                format!("{tick} ms")
            };
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1}\"/>\
                 <text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\">{label}</text>",
                x(tick),
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 18.0,
            );
        }
        ms *= 10.0;
    }
    for (index, ((name, times), colour)) in curves.iter().zip(COLOURS).enumerate() {
        let mut times = times.clone();
        times.sort_by(f64::total_cmp);
        let mut path = String::new();
        let mut before = 0.0;
        for (n, time) in times.iter().enumerate() {
            let share = (n + 1) as f64 / times.len() as f64;
            let command = if n == 0 { 'M' } else { 'L' };
            let _ = write!(
                path,
                "{command}{0:.1} {1:.1}L{0:.1} {2:.1}",
                x(*time),
                y(before),
                y(share)
            );
            before = share;
        }
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>"
        );
        let middle = times.get(times.len() / 2).copied().unwrap_or(low);
        // Each name stands beside its own curve, on the side that has room. Each stands lower than
        // the one before, so that none covers another.
        let height = 0.68 - 0.16 * index as f64;
        let there = times.get((times.len() as f64 * height) as usize);
        let (side, anchor) = if x(middle) < WIDTH / 2.0 {
            (16.0, "start")
        } else {
            (-16.0, "end")
        };
        let at = x(there.copied().unwrap_or(middle)) + side;
        let _ = writeln!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" style=\"fill:{colour}\" \
             font-weight=\"600\">{name}</text>",
            y(height) + 4.0,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">time from the change until every member has it</text>\n</svg>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 12.0,
    );
    svg
}
