// The drawing of the cluster: native nodes on an inner ring, tabs around them.
//
// Shapes glide to their places and fade in and out. A ring spreads from a member whose heartbeat has
// increased, and a spark runs along a link that has carried a message. Frames are requested only while
// something moves, and nothing moves if the user prefers reduced motion.

import { kindOf } from "./cluster.js";
import { setAttribute, setText, svg } from "./dom.js";

const HEXAGON = "M0 -21 18.2 -10.5v21L0 21-18.2 10.5v-21z";
// The links between all members are drawn for at most this many members. More would be a grey disc.
const MAX_MESH = 14;
// Fraction of the distance to its place that a shape has left after a second.
const GLIDE_LEFT_PER_SECOND = 0.004;
const FADE_PER_SECOND = 3.2;
const RING_MS = 1100;
const RING_PAUSE_MS = 900;
const SPARK_MS = 620;
const SPARK_PAUSE_MS = 240;
const MAX_LABEL = 16;
// Minimum distance of shapes on their ring, in pixels, at which their names do not overlap.
const LABEL_ROOM = 44;

export class Drawing {
  #root;
  #layers = {};
  #shapes = new Map();
  #edges = new Map();
  #flights = new Set();
  #size = { width: 0, height: 0 };
  #scale = 1;
  #frame = 0;
  #last = 0;
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #members = [];
  #stats = null;

  constructor(container) {
    for (const layer of ["backdrop", "edges", "rings", "sparks", "shapes"]) {
      this.#layers[layer] = svg("g", { class: layer });
    }
    this.#root = svg("svg", { role: "img", "aria-label": "No members yet" }, ...Object.values(this.#layers));
    container.append(this.#root);
    new ResizeObserver(() => this.#resize(container)).observe(container);
    this.#resize(container);
  }

  /** Shows these members, one for each id, and this tab's links. */
  update(members, stats) {
    const before = this.#stats;
    this.#members = members;
    this.#stats = stats;
    this.#place();
    this.#beats(members);
    if (before && stats) this.#traffic(before, stats);
    const live = members.filter((member) => member.live).length;
    const label = members.length === 0
      ? "No members yet"
      : `${live} of ${members.length} members live, ${stats.connections.length} of them linked to this tab`;
    setAttribute(this.#root, "aria-label", label);
    this.#wake();
  }

  #resize(container) {
    const { clientWidth: width, clientHeight: height } = container;
    if (width === 0 || height === 0) return;
    this.#size = { width, height };
    setAttribute(this.#root, "viewBox", `${-width / 2} ${-height / 2} ${width} ${height}`);
    this.#place(true);
    this.#wake();
  }

  // Assigns a place to every member, and marks the shapes of absent members as leaving.
  #place(jump = false) {
    const { width, height } = this.#size;
    if (width === 0) return;
    const nodes = this.#members.filter((member) => kindOf(member) === "node");
    const tabs = this.#members.filter((member) => kindOf(member) === "tab");
    const crowd = Math.sqrt(12 / Math.max(12, this.#members.length));
    this.#scale = Math.max(0.5, crowd * Math.min(1, width / 420));
    const outer = { x: Math.max(60, width / 2 - 58 * this.#scale), y: Math.max(60, height / 2 - 46) };
    const share = tabs.length === 0 ? 0.82 : nodes.length === 1 ? 0 : nodes.length > 5 ? 0.62 : 0.5;
    const inner = { x: outer.x * share, y: outer.y * Math.max(share, share && 0.62) };
    const places = [
      ...ring(nodes, inner, -Math.PI / 2),
      ...ring(tabs, outer, firstTabAngle(nodes.length, tabs.length)),
    ];
    // Three shapes on a ring reach further up than down, so the whole is centred.
    const heights = places.map((place) => place.y);
    const rise = places.length > 0 ? (Math.min(...heights) + Math.max(...heights)) / 2 : 0;
    for (const { member, x, y } of places) this.#shape(member).goTo(x, y - rise);
    setAttribute(this.#layers.backdrop, "transform", `translate(0 ${-Math.round(rise)})`);
    const none = this.#members.length === 0;
    const crowded = (members, radius) => (Math.PI * (radius.x + radius.y)) / members.length < LABEL_ROOM;
    this.#root.classList.toggle("crowded-nodes", nodes.length > 1 && crowded(nodes, inner));
    this.#root.classList.toggle("crowded-tabs", tabs.length > 1 && crowded(tabs, outer));
    this.#backdrop(nodes.length > 1 || none ? inner : null, tabs.length > 0 || none ? outer : null);

    const present = new Set(this.#members.map((member) => member.id));
    for (const [id, shape] of this.#shapes) shape.leaving = !present.has(id);
    this.#link(nodes, tabs);
    if (jump || this.#still.matches) for (const shape of this.#shapes.values()) shape.jump();
  }

  #backdrop(...rings) {
    const ellipses = this.#layers.backdrop;
    rings.forEach((radius, index) => {
      const ellipse = ellipses.children[index] ?? ellipses.appendChild(svg("ellipse"));
      setAttribute(ellipse, "rx", radius ? radius.x.toFixed(0) : 0);
      setAttribute(ellipse, "ry", radius ? radius.y.toFixed(0) : 0);
    });
  }

  #shape(member) {
    let shape = this.#shapes.get(member.id);
    if (!shape) {
      shape = new Shape(member);
      this.#shapes.set(member.id, shape);
      this.#layers.shapes.append(shape.element);
    }
    shape.show(member);
    return shape;
  }

  // Draws lines between all nodes, and between nodes and tabs, which may gossip with each other. Tabs
  // cannot dial tabs. This tab's actual connections are drawn as stronger lines.
  #link(nodes, tabs) {
    const wanted = new Map();
    const want = (a, b, kind) => wanted.set(edgeKey(a.id, b.id), { from: a.id, to: b.id, kind });
    const live = (members) => members.filter((member) => member.live);
    if (this.#members.length <= MAX_MESH) {
      const liveNodes = live(nodes);
      liveNodes.forEach((a, index) => {
        for (const b of liveNodes.slice(index + 1)) want(a, b, "mesh");
        for (const b of live(tabs)) if (!b.self) want(a, b, "mesh");
      });
    }
    const me = this.#members.find((member) => member.self);
    const linked = new Set(this.#stats?.connections.map((link) => link.remoteAddr));
    if (me) {
      for (const member of this.#members) {
        if (!member.self && linked.has(member.addr)) want(me, member, "mine");
      }
    }
    for (const [key, edge] of wanted) {
      const known = this.#edges.get(key);
      if (known) {
        setAttribute(known.line, "class", edge.kind);
        known.leaving = false;
        continue;
      }
      edge.line = svg("line", { class: edge.kind, opacity: 0 });
      edge.opacity = 0;
      this.#layers.edges.append(edge.line);
      this.#edges.set(key, edge);
    }
    for (const [key, edge] of this.#edges) if (!wanted.has(key)) edge.leaving = true;
  }

  #beats(members) {
    for (const member of members) {
      const shape = this.#shapes.get(member.id);
      if (!shape) continue;
      const rose = shape.heartbeat !== null && member.heartbeat > shape.heartbeat;
      shape.heartbeat = member.heartbeat;
      if (rose && member.live && this.#due(shape, "ring", RING_PAUSE_MS)) this.#ring(shape);
    }
  }

  #traffic(before, stats) {
    const old = new Map(before.peers.map((peer) => [peer.addr, peer]));
    const me = this.#members.find((member) => member.self);
    if (!me) return;
    for (const peer of stats.peers) {
      const was = old.get(peer.addr);
      const member = this.#members.find((candidate) => candidate.addr === peer.addr);
      if (!was || !member || member.self) continue;
      const edge = this.#edges.get(edgeKey(me.id, member.id));
      if (!edge) continue;
      if (peer.sent > was.sent && this.#due(edge, "out", SPARK_PAUSE_MS)) this.#spark(me.id, member.id);
      if (peer.received > was.received && this.#due(edge, "in", SPARK_PAUSE_MS)) {
        this.#spark(member.id, me.id);
      }
    }
  }

  #due(owner, what, pause) {
    if (this.#still.matches || document.hidden) return false;
    const now = performance.now();
    if (now - (owner[what] ?? -Infinity) < pause) return false;
    owner[what] = now;
    return true;
  }

  #ring(shape) {
    const circle = svg("circle", { class: `ring ${shape.kind}` });
    this.#layers.rings.append(circle);
    this.#fly(circle, RING_MS, (part) => {
      setAttribute(circle, "cx", shape.x.toFixed(1));
      setAttribute(circle, "cy", shape.y.toFixed(1));
      setAttribute(circle, "r", ((22 + 20 * easeOut(part)) * this.#scale).toFixed(1));
      setAttribute(circle, "opacity", (0.55 * (1 - part)).toFixed(2));
    });
  }

  #spark(from, to) {
    const circle = svg("circle", { class: "spark", r: 3.4 });
    this.#layers.sparks.append(circle);
    this.#fly(circle, SPARK_MS, (part) => {
      const [a, b] = [this.#shapes.get(from), this.#shapes.get(to)];
      if (!a || !b) return;
      const at = easeInOut(part);
      setAttribute(circle, "cx", (a.x + (b.x - a.x) * at).toFixed(1));
      setAttribute(circle, "cy", (a.y + (b.y - a.y) * at).toFixed(1));
      setAttribute(circle, "opacity", Math.min(1, 5 * part, 5 * (1 - part)).toFixed(2));
    });
  }

  #fly(element, millis, draw) {
    this.#flights.add({ element, millis, draw, start: performance.now() });
  }

  #wake() {
    if (this.#frame !== 0) return;
    this.#last = performance.now();
    this.#frame = requestAnimationFrame((now) => this.#step(now));
  }

  #step(now) {
    this.#frame = 0;
    const seconds = Math.min(0.1, Math.max(0, now - this.#last) / 1000);
    this.#last = now;
    let moving = false;
    for (const [id, shape] of this.#shapes) {
      moving = shape.step(seconds, this.#scale, this.#still.matches) || moving;
      if (shape.leaving && shape.opacity === 0) {
        shape.element.remove();
        this.#shapes.delete(id);
      }
    }
    for (const [key, edge] of this.#edges) moving = this.#stepEdge(key, edge, seconds) || moving;
    for (const flight of this.#flights) {
      const part = (now - flight.start) / flight.millis;
      if (part < 1) {
        flight.draw(Math.max(0, part));
        moving = true;
      } else {
        flight.element.remove();
        this.#flights.delete(flight);
      }
    }
    if (moving) this.#frame = requestAnimationFrame((next) => this.#step(next));
  }

  #stepEdge(key, edge, seconds) {
    const [a, b] = [this.#shapes.get(edge.from), this.#shapes.get(edge.to)];
    const target = edge.leaving || !a || !b ? 0 : 1;
    edge.opacity = this.#still.matches ? target : approach(edge.opacity, target, FADE_PER_SECOND * seconds);
    if (target === 0 && edge.opacity === 0) {
      edge.line.remove();
      this.#edges.delete(key);
      return false;
    }
    if (a && b) {
      setAttribute(edge.line, "x1", a.x.toFixed(1));
      setAttribute(edge.line, "y1", a.y.toFixed(1));
      setAttribute(edge.line, "x2", b.x.toFixed(1));
      setAttribute(edge.line, "y2", b.y.toFixed(1));
    }
    setAttribute(edge.line, "opacity", edge.opacity.toFixed(2));
    return edge.opacity !== target;
  }
}

/** One member. */
class Shape {
  x = 0;
  y = 0;
  opacity = 0;
  leaving = false;
  heartbeat = null;
  #target = null;

  constructor(member) {
    this.kind = kindOf(member);
    this.body = svg("g", { class: "body" });
    this.label = svg("text");
    this.title = svg("title");
    this.element = svg("g", { opacity: 0 }, this.title, this.body, this.label);
    this.#draw();
  }

  show(member) {
    const kind = kindOf(member);
    if (kind !== this.kind) {
      this.kind = kind;
      this.#draw();
    }
    const state = member.live ? "live" : "dead";
    setAttribute(this.element, "class", `shape ${kind} ${state}${member.self ? " self" : ""}`);
    const name = member.id.length > MAX_LABEL ? `${member.id.slice(0, MAX_LABEL - 1)}…` : member.id;
    setText(this.label, name);
    setText(this.title, `${member.id}, ${state}, ${member.addr}`);
  }

  #draw() {
    const shape =
      this.kind === "tab"
        ? [
            svg("rect", { class: "halo", x: -27, y: -23, width: 54, height: 46, rx: 12 }),
            svg("rect", { class: "face", x: -21, y: -17, width: 42, height: 34, rx: 7 }),
            svg("path", { class: "detail", d: "M-19.5 -7.5H19.5" }),
            svg("path", { class: "detail dots", d: "M-15.5 -12.2h0M-10 -12.2h0M-4.5 -12.2h0" }),
          ]
        : [
            svg("circle", { class: "halo", r: 27 }),
            svg("path", { class: "face", d: HEXAGON }),
            svg("path", { class: "detail", d: "M-7.5 -5h15M-7.5 0h15M-7.5 5h9" }),
          ];
    this.body.replaceChildren(...shape);
  }

  goTo(x, y) {
    // New shapes start near the middle.
    if (!this.#target) [this.x, this.y] = [x * 0.55, y * 0.55];
    this.#target = { x, y };
  }

  jump() {
    if (this.#target) [this.x, this.y] = [this.#target.x, this.#target.y];
  }

  /** Advances by one frame. Returns whether the shape still moves or fades. */
  step(seconds, size, still) {
    const goal = this.leaving ? 0 : 1;
    const left = still ? 0 : GLIDE_LEFT_PER_SECOND ** seconds;
    this.x = this.#target.x + (this.x - this.#target.x) * left;
    this.y = this.#target.y + (this.y - this.#target.y) * left;
    const far = Math.hypot(this.x - this.#target.x, this.y - this.#target.y) > 0.2;
    if (!far) this.jump();
    this.opacity = still ? goal : approach(this.opacity, goal, FADE_PER_SECOND * seconds);
    const scale = size * (0.7 + 0.3 * easeOut(this.opacity));
    setAttribute(this.label, "y", (12 + 28 * size).toFixed(0));
    setAttribute(this.label, "font-size", (size < 0.8 ? 10.5 : 12.5).toFixed(1));
    setAttribute(this.element, "transform", `translate(${this.x.toFixed(1)} ${this.y.toFixed(1)})`);
    setAttribute(this.body, "transform", `scale(${scale.toFixed(3)})`);
    setAttribute(this.element, "opacity", this.opacity.toFixed(2));
    return far || this.opacity !== goal;
  }
}

function ring(members, radius, start) {
  return members.map((member, index) => {
    const angle = start + (2 * Math.PI * index) / members.length;
    return { member, x: Math.cos(angle) * radius.x, y: Math.sin(angle) * radius.y };
  });
}

// Two tabs are placed left and right, where there is room; others between two nodes, not behind one.
function firstTabAngle(nodes, tabs) {
  if (tabs === 1) return nodes === 1 ? 0 : Math.PI / 2;
  if (tabs === 2) return Math.PI;
  return -Math.PI / 2 + Math.PI / Math.max(1, nodes);
}

// A name may contain any character, so the first one's length makes the key unambiguous.
const edgeKey = (a, b) => {
  const [first, second] = a < b ? [a, b] : [b, a];
  return `${first.length} ${first} ${second}`;
};
const approach = (value, goal, step) =>
  value < goal ? Math.min(goal, value + step) : Math.max(goal, value - step);
const easeOut = (part) => 1 - (1 - part) ** 3;
const easeInOut = (part) => (part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2);
