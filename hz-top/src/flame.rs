//! What a user chose of a flame graph, and where its frames are on the screen.

use hz_trace::model::window::FlameGraph;

/// A place in a flame graph: the frame's number there; `None`: all of it.
type Place = Option<usize>;

/// A move in a flame graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// To the frame that calls.
    Out,
    /// To the frame that is called most.
    In,
    /// To the neighbour at the left.
    Left,
    /// To the neighbour at the right.
    Right,
}

/// What is looked at. Frames are named by the way to them: numbers change with every window.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlameState {
    /// Whether times off a CPU are shown.
    pub(crate) is_off: bool,
    /// The frame that fills the width.
    focus: Vec<String>,
    /// The frame that is chosen.
    cursor: Vec<String>,
}

/// A frame on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Its number in the graph.
    pub(crate) node: usize,
    /// Line from the top.
    pub(crate) line: u16,
    pub(crate) left: u16,
    pub(crate) width: u16,
}

impl FlameState {
    pub(crate) const fn kind(&self) -> &'static str {
        if self.is_off { "off-cpu" } else { "on-cpu" }
    }

    /// Shows the other kind, whole.
    pub(crate) fn turn(&mut self) {
        *self = Self { is_off: !self.is_off, ..Self::default() };
    }

    pub(crate) fn cursor(&self, graph: &FlameGraph) -> Place {
        find(graph, &self.cursor)
    }

    /// Lets the chosen frame fill the width.
    pub(crate) fn zoom(&mut self) {
        self.focus.clone_from(&self.cursor);
    }

    /// Zooms out by a frame; false if all is shown already.
    pub(crate) fn zoom_out(&mut self) -> bool {
        self.cursor.clone_from(&self.focus);
        self.focus.pop().is_some()
    }

    pub(crate) fn step(&mut self, graph: &FlameGraph, step: Step) {
        let place = self.cursor(graph);
        let next = match (step, place) {
            (Step::Out, _) => {
                if self.cursor.len() > self.focus.len() {
                    self.cursor.pop();
                }
                return;
            }
            (Step::In, _) => children(graph, place).max_by_key(|node| graph.nodes[*node].total_ns),
            (Step::Left, Some(place)) => {
                siblings(graph, place).take_while(|node| *node < place).last()
            }
            (Step::Right, Some(place)) => siblings(graph, place).find(|node| *node > place),
            (_, None) => None,
        };
        if let Some(node) = next {
            self.cursor = path(graph, node);
        }
    }

    /// Chooses a frame; the one that is chosen already is zoomed to.
    pub(crate) fn choose(&mut self, graph: &FlameGraph, node: usize) {
        let chosen = path(graph, node);
        if chosen == self.cursor {
            self.zoom();
        }
        self.cursor = chosen;
    }

    /// Where frames are, `width` columns and `height` lines at the most.
    pub(crate) fn tiles(&self, graph: &FlameGraph, width: u16, height: u16) -> Vec<Tile> {
        let mut tiles = Vec::new();
        let focus = find(graph, &self.focus);
        // The frames that lead to the one in focus are as wide as it is.
        let above: Vec<usize> =
            (1..=self.focus.len()).filter_map(|depth| find(graph, &self.focus[..depth])).collect();
        for (line, node) in (0..).zip(&above) {
            tiles.push(Tile { node: *node, line, left: 0, width });
        }
        let whole = focus.map_or(graph.total_ns, |node| graph.nodes[node].total_ns).max(1);
        let scale = f64::from(width) / whole as f64;
        let mut rows = vec![(focus, 0.0, 0_u16.saturating_add(above.len() as u16))];
        while let Some((parent, from, line)) = rows.pop() {
            if line >= height {
                continue;
            }
            let mut left = from;
            for node in children(graph, parent) {
                let right = left + graph.nodes[node].total_ns as f64 * scale;
                let (first, end) = (left.round() as u16, (right.round() as u16).min(width));
                if end > first {
                    tiles.push(Tile { node, line, left: first, width: end - first });
                    rows.push((Some(node), left, line + 1));
                }
                left = right;
            }
        }
        tiles.retain(|tile| tile.line < height);
        tiles
    }
}

/// Frames that are called by one, in order.
fn children(graph: &FlameGraph, parent: Place) -> impl Iterator<Item = usize> + '_ {
    let depth = parent.map_or(0, |node| graph.nodes[node].depth + 1);
    let from = parent.map_or(0, |node| node + 1);
    let inside = graph.nodes.iter().enumerate().skip(from);
    let inside = inside.take_while(move |(_, node)| node.depth >= depth);
    inside.filter(move |(_, node)| node.depth == depth).map(|(number, _)| number)
}

fn siblings(graph: &FlameGraph, node: usize) -> impl Iterator<Item = usize> + '_ {
    children(graph, parent(graph, node))
}

fn parent(graph: &FlameGraph, node: usize) -> Place {
    let depth = graph.nodes[node].depth.checked_sub(1)?;
    graph.nodes[..node].iter().rposition(|each| each.depth == depth)
}

fn path(graph: &FlameGraph, node: usize) -> Vec<String> {
    let mut names: Vec<String> = std::iter::successors(Some(node), |node| parent(graph, *node))
        .map(|node| graph.nodes[node].name.clone())
        .collect();
    names.reverse();
    names
}

/// The frame that is named by the way to it.
fn find(graph: &FlameGraph, path: &[String]) -> Place {
    path.iter().try_fold(None, |place, name| {
        children(graph, place).find(|node| graph.nodes[*node].name == *name).map(Some)
    })?
}

#[cfg(test)]
mod tests {
    use super::*;
    use hz_trace::model::window::FlameNode;

    fn graph() -> FlameGraph {
        let node = |depth, name: &str, total_ns| FlameNode {
            depth,
            name: name.into(),
            is_kernel: false,
            total_ns,
        };
        let nodes = vec![
            node(0, "a", 60),
            node(1, "main", 60),
            node(2, "f", 40),
            node(2, "g", 20),
            node(0, "b", 40),
        ];
        FlameGraph { total_ns: 100, nodes, ..FlameGraph::default() }
    }

    #[test]
    fn frames_are_as_wide_as_they_took_and_a_zoom_fills_the_width() {
        let (graph, mut state) = (graph(), FlameState::default());
        let widths = |state: &FlameState| {
            let tiles = state.tiles(&graph, 100, 9);
            let of = |node| {
                tiles
                    .iter()
                    .find(|tile| tile.node == node)
                    .map(|tile| (tile.line, tile.left, tile.width))
            };
            [of(0), of(1), of(2), of(3), of(4)]
        };
        assert_eq!(
            widths(&state),
            [
                Some((0, 0, 60)),
                Some((1, 0, 60)),
                Some((2, 0, 40)),
                Some((2, 40, 20)),
                Some((0, 60, 40))
            ]
        );
        state.step(&graph, Step::In);
        state.step(&graph, Step::In);
        state.step(&graph, Step::In);
        state.step(&graph, Step::Right);
        assert_eq!(state.cursor(&graph), Some(3));
        state.zoom();
        assert_eq!(
            widths(&state),
            [Some((0, 0, 100)), Some((1, 0, 100)), None, Some((2, 0, 100)), None]
        );
        assert!(state.zoom_out());
        assert_eq!(widths(&state)[2], Some((2, 0, 67)));
        state.step(&graph, Step::Left);
        assert_eq!(state.cursor(&graph), Some(2));
        state.choose(&graph, 4);
        state.choose(&graph, 4);
        assert_eq!(state.focus, ["b"]);
    }

    #[test]
    fn a_frame_that_is_gone_is_not_chosen_and_all_is_shown() {
        let mut state = FlameState::default();
        state.choose(&graph(), 3);
        state.zoom();
        let other = FlameGraph { total_ns: 7, ..FlameGraph::default() };
        assert_eq!(state.cursor(&other), None);
        assert!(state.tiles(&other, 80, 10).is_empty());
        assert!(state.tiles(&graph(), 0, 0).is_empty());
    }
}
