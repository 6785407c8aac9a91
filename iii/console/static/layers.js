// A layered drawing of a directed graph: layers by longest path, places in them by the middle of the neighbours. Pure.

const NODE = { width: 172, height: 54 };
const MARGIN = 16;
const LANE = 18; // what an edge takes of a layer that it only passes
const SWEEPS = 6;
const SPACE = {
  right: { along: NODE.width, across: NODE.height, gap: 116, apart: 24 },
  down: { along: NODE.height, across: NODE.width, gap: 66, apart: 28 },
};

/**
 * Layers go to the right or down; parts that hang together are drawn apart.
 * nodes: [{id}], edges: [{from, to}] -> {width, height, placed: Map id -> {x, y, width, height}, paths: Map key -> {d, middle}}
 */
export function layered(nodes, edges, direction = "right") {
  const known = new Set(nodes.map(({ id }) => id));
  const drawn = edges.filter(({ from, to }) => known.has(from) && known.has(to));
  const space = SPACE[direction];
  const placed = new Map();
  const paths = new Map();
  let along = 0;
  let across = MARGIN;
  for (const part of partsOf(nodes, drawn)) {
    const ids = new Set(part.map(({ id }) => id));
    const within = drawn.filter(({ from }) => ids.has(from));
    const { layers, passed } = layersOf(
      part,
      within.filter(({ from, to }) => from !== to),
    );
    let end = placeLayers(layers, across, space, direction, placed);
    for (const edge of within) {
      const via = (passed.get(edgeKey(edge)) ?? []).map((id) => placed.get(id));
      const path = (direction === "right" ? pathRight : pathDown)(placed.get(edge.from), placed.get(edge.to), via, end);
      paths.set(edgeKey(edge), path);
      end = Math.max(end, path.reach);
    }
    along = Math.max(along, layers.length * (space.along + space.gap) - space.gap);
    across = end + space.apart * 1.6;
  }
  const size = [along + MARGIN * 2, across - space.apart * 1.6 + MARGIN];
  const [width, height] = direction === "right" ? size : size.toReversed();
  return { width, height, placed, paths };
}

function placeLayers(layers, start, space, direction, placed) {
  const widthOf = (id) => (isLane(id) ? LANE : space.across);
  const long = (layer) => layer.reduce((sum, id) => sum + widthOf(id) + space.apart, -space.apart);
  const whole = Math.max(...layers.map(long));
  layers.forEach((layer, index) => {
    let cross = start + (whole - long(layer)) / 2;
    const main = MARGIN + index * (space.along + space.gap);
    for (const id of layer) {
      const [x, y] = direction === "right" ? [main, cross] : [cross, main];
      const size = !isLane(id)
        ? NODE
        : direction === "right"
          ? { width: space.along, height: LANE }
          : { width: LANE, height: space.along };
      placed.set(id, { x, y, ...size });
      cross += widthOf(id) + space.apart;
    }
  });
  return start + whole;
}

/** Nodes that are joined by edges, whatever their direction; the largest part first. */
function partsOf(nodes, edges) {
  const parent = new Map(nodes.map(({ id }) => [id, id]));
  const root = (id) => (parent.get(id) === id ? id : root(parent.get(id)));
  for (const { from, to } of edges) parent.set(root(from), root(to));
  const parts = new Map();
  for (const node of nodes) parts.set(root(node.id), [...(parts.get(root(node.id)) ?? []), node]);
  return [...parts.values()].sort((a, b) => b.length - a.length);
}

/** The ids of each layer, with a lane in every layer that an edge only passes: `passed` names them by edge. */
function layersOf(nodes, edges) {
  const forward = withoutCycles(nodes, edges);
  const layerOf = longestPaths(nodes, forward);
  const layers = [];
  const add = (id, layer) => (layers[layer] ??= []).push(id);
  for (const { id } of nodes) add(id, layerOf.get(id));
  const passed = new Map();
  const short = [];
  for (const edge of forward) {
    const lanes = [];
    for (let layer = layerOf.get(edge.from) + 1; layer < layerOf.get(edge.to); layer++) {
      const id = `\u0001${layer}\u0000${edgeKey(edge)}`;
      add(id, layer);
      lanes.push(id);
    }
    passed.set(edgeKey(edge), lanes);
    const stops = [edge.from, ...lanes, edge.to];
    for (let at = 1; at < stops.length; at++) short.push({ from: stops[at - 1], to: stops[at] });
  }
  const filled = layers.filter(Boolean);
  order(filled, short);
  return { layers: filled, passed };
}

const isLane = (id) => id.startsWith("\u0001");

export const edgeKey = ({ from, to }) => `${from}\u0000${to}`;

function withoutCycles(nodes, edges) {
  const out = Map.groupBy ? Map.groupBy(edges, ({ from }) => from) : grouped(edges);
  const state = new Map();
  const kept = [];
  const visit = (id) => {
    state.set(id, "open");
    for (const edge of out.get(id) ?? []) {
      if (state.get(edge.to) === "open") continue;
      kept.push(edge);
      if (!state.has(edge.to)) visit(edge.to);
    }
    state.set(id, "closed");
  };
  const entered = new Set(edges.map(({ to }) => to));
  for (const { id } of [...nodes].sort((a, b) => entered.has(a.id) - entered.has(b.id))) if (!state.has(id)) visit(id);
  return kept;
}

function grouped(edges) {
  const groups = new Map();
  for (const edge of edges) groups.set(edge.from, [...(groups.get(edge.from) ?? []), edge]);
  return groups;
}

function longestPaths(nodes, edges) {
  const layer = new Map(nodes.map(({ id }) => [id, 0]));
  for (let round = 0, moved = true; moved && round <= nodes.length; round++) {
    moved = false;
    for (const { from, to } of edges) {
      if (layer.get(to) < layer.get(from) + 1) {
        layer.set(to, layer.get(from) + 1);
        moved = true;
      }
    }
  }
  // Each stands right before the first thing it leads to: short edges, no far beginnings.
  for (const { id } of [...nodes].sort((a, b) => layer.get(b.id) - layer.get(a.id))) {
    const next = edges.filter(({ from }) => from === id).map(({ to }) => layer.get(to));
    if (next.length) layer.set(id, Math.min(...next) - 1);
  }
  return layer;
}

function order(columns, edges) {
  const into = new Map();
  const out = new Map();
  for (const { from, to } of edges) {
    into.set(to, [...(into.get(to) ?? []), from]);
    out.set(from, [...(out.get(from) ?? []), to]);
  }
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const down = sweep % 2 === 0;
    const place = new Map(columns.flatMap((column) => column.map((id, row) => [id, (row + 0.5) / column.length])));
    for (const column of down ? columns : [...columns].reverse()) {
      const middle = new Map(
        column.map((id) => {
          const near = ((down ? into : out).get(id) ?? []).map((other) => place.get(other));
          return [id, near.length ? near.reduce((sum, at) => sum + at, 0) / near.length : place.get(id)];
        }),
      );
      column.sort((a, b) => middle.get(a) - middle.get(b));
      column.forEach((id, row) => place.set(id, (row + 0.5) / column.length));
    }
  }
}

function pathRight(from, to, via, bottom) {
  if (to.x > from.x)
    return pathThrough(
      [from, ...via, to].map(({ x, y, width, height }) => ({
        enter: [x, y + height / 2],
        leave: [x + width, y + height / 2],
      })),
      0,
    );
  const [x1, y1, y2] = [from.x + from.width, from.y + from.height / 2, to.y + to.height / 2];
  const low = Math.min(bottom + 14, Math.max(from.y, to.y) + from.height + 18);
  return {
    d: `M${x1} ${y1} C${x1 + 50} ${y1} ${x1 + 50} ${low} ${x1 - 20} ${low} L${to.x + 20} ${low} C${to.x - 50} ${low} ${to.x - 50} ${y2} ${to.x} ${y2}`,
    middle: { x: (x1 + to.x) / 2, y: low },
    reach: low,
  };
}

function pathDown(from, to, via) {
  if (to.y > from.y)
    return pathThrough(
      [from, ...via, to].map(({ x, y, width, height }) => ({
        enter: [x + width / 2, y],
        leave: [x + width / 2, y + height],
      })),
      1,
    );
  const [half, x1, x2] = [from.height / 2, from.x + from.width, to.x + to.width];
  const right = Math.max(x1, x2) + 26;
  return {
    d: `M${x1} ${from.y + half} C${right} ${from.y + half} ${right} ${from.y} ${right} ${(from.y + to.y) / 2 + half} C${right} ${to.y + half * 2} ${right} ${to.y + half} ${x2} ${to.y + half}`,
    middle: { x: right, y: (from.y + to.y) / 2 + half },
    reach: right + 40,
  };
}

/** A curve from stop to stop, straight through each; main: the axis that layers go along, 0 = x, 1 = y. */
function pathThrough(stops, main) {
  let d = `M${stops[0].leave.join(" ")}`;
  for (let at = 1; at < stops.length; at++) {
    const [from, to] = [stops[at - 1].leave, stops[at].enter];
    const half = (from[main] + to[main]) / 2;
    const bends = main === 0 ? [half, from[1], half, to[1]] : [from[0], half, to[0], half];
    d += ` C${bends.join(" ")} ${to.join(" ")}`;
    if (at < stops.length - 1) d += ` L${stops[at].leave.join(" ")}`;
  }
  const [a, b] = [stops[0].leave, stops[1].enter];
  return { d, middle: { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2 }, reach: 0 };
}
