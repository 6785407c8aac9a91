// The engines that run on the store: how each is, what it runs, what it takes of the machine.
import { html } from "../html.js";
import { useApi } from "../api.js";
import { href } from "../router.js";
import { bytes, compactNumber, duration, percent, rate } from "../format.js";
import { PageHead } from "../shell.js";
import { Ago, Answer, Badge, Cli, Empty, Facts } from "../components/badge.js";

const SHOWN_LANES = 12;
const HEALTH = {
  __proto__: null,
  ready: ["healthy", "ready"],
  healthy: ["healthy", "healthy"],
  starting: ["waiting", "starting"],
  draining: ["draining", "draining"],
  stuck: ["failed", "stuck"],
  stopped: ["failed", "stopped"],
  stale: ["failed", "stale"],
  lost: ["failed", "lost"],
  dead: ["failed", "dead"],
};

export default function Instances() {
  const answer = useApi("api/instances", { every_ms: 2_000 });
  return html`
    <${PageHead} title="Instances" detail="The engines that work on this store." cli=${html`<${Cli} words=${["iii", "instances"]} />`} />
    <${Answer} of=${answer} rows=${3}>${({ instances }) =>
      instances.length === 0
        ? html`<${Empty} title="No engine runs" icon="instances">Start one with iii run.<//>`
        : html`<ul class="cards">${instances.map((instance) => html`<${Instance} key=${instance.session}
            instance=${instance} />`)}</ul>`}<//>`;
}

function Instance({ instance }) {
  const lanes = Array.isArray(instance.lanes) ? instance.lanes : [];
  const [tone, health] = HEALTH[instance.health] ?? ["waiting", instance.health];
  return html`<li class="panel"><header class="panel-head"><h2 class="num">pid ${instance.pid}</h2><${Badge} state=${tone}
      text=${health} />${instance.quarantine && html`<span class="badge">quarantine</span>`}${instance.here && html`<span class="badge tone-accent">answers this page</span>`}</header>
    <div class="instance-numbers">
      <div><span class="faint">In flight</span><strong class="num">${compactNumber(instance.in_flight)}</strong></div>
      <div><span class="faint">Done</span><strong class="num">${rate(instance.per_s)}<small>/s</small></strong></div>
      <div><span class="faint">Up</span><strong class="num">${duration((instance.uptime_s ?? 0) * 1000)}</strong></div>
    </div>
    <${Facts} of=${[
      ["Session", html`<span class="num mono">${instance.session}</span>`],
      typeof instance.lanes === "number" && ["Queues taken from", html`<span class="num">${instance.lanes}</span>`],
      ["Started", html`<${Ago} at_ms=${instance.started_ms} />`],
      instance.cpu !== undefined &&
        instance.cpu !== null && ["CPU", html`<span class="num">${percent(instance.cpu)}</span>`],
      instance.rss !== undefined &&
        instance.rss !== null && ["Memory", html`<span class="num">${bytes(instance.rss)}</span>`],
    ]} />
    ${
      lanes.length > 0 &&
      html`<h3>Takes from <span class="num faint">${lanes.length}</span></h3>
    <ul class="chips">${lanes.slice(0, SHOWN_LANES).map((lane, index) => {
      const [topic, step] = Array.isArray(lane) ? lane : [lane.topic ?? lane, lane.step];
      return html`<li key=${index}><a class="chip" href=${href(["queues", topic], { step })}>${topic}</a></li>`;
    })}${lanes.length > SHOWN_LANES && html`<li class="faint">and ${lanes.length - SHOWN_LANES} more</li>`}</ul>`
    }</li>`;
}
