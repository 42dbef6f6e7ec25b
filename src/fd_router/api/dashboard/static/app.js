/* The page as a whole: what it is sent, and what it sends. */

const THEMES = ["system", "light", "dark"];
const EMPTY = { rate: [], failed: [], ttft: [], running: [], queued: [] };

async function send(method, path, body) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  let response;
  try {
    response = await fetch(endpoint(path), { method, body, headers });
  } catch {
    throw new Error("The router can't be reached.");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ? answer.error.message : `Status ${response.status}`);
  return answer;
}

function withFrame(page, state) {
  const traffic = state.traffic;
  const histories = new Map();
  for (const one of state.instances) {
    const before = page.histories.get(one.key) || [];
    histories.set(one.key, traffic ? pushed(before, one.ttft_ms) : before);
  }
  const isFirst = !page.state;
  const sum = (values) => values.reduce((total, value) => total + value, 0);
  const history = traffic ? {
    rate: pushed(page.history.rate, traffic.rate),
    failed: pushed(page.history.failed, traffic.failed),
    ttft: pushed(page.history.ttft, traffic.ttft_ms),
    running: pushed(page.history.running, sum(state.instances.map((one) => (one.role === "decode" ? 0 : one.running)))),
    queued: pushed(page.history.queued, sum(Object.values(state.queue))),
  } : page.history;
  return {
    state: { ...state, traffic: traffic || (page.state && page.state.traffic) },
    history,
    histories,
    decisions: merged(traffic ? page.decisions : [], state.decisions),
    troubles: merged(traffic ? page.troubles : [], state.troubles),
    isFirst,
  };
}

/* Follows the router's events. `epoch` changes when it is to ask anew, for who looks may see more or less since. */
function useFeed(epoch, isPaused) {
  const [page, setPage] = useState({ state: null, history: EMPTY, histories: new Map(), decisions: [], troubles: [] });
  const [hello, setHello] = useState(null);
  const [isLive, setLive] = useState(false);
  const paused = useRef(false);
  paused.current = isPaused;
  useEffect(() => {
    const source = new EventSource(endpoint("events"));
    source.addEventListener("hello", (event) => {
      setHello(JSON.parse(event.data));
      setLive(true);
    });
    source.addEventListener("state", (event) => {
      if (!paused.current) setPage((before) => withFrame(before, JSON.parse(event.data)));
    });
    source.onerror = () => {
      setLive(false);
      if (source.readyState === EventSource.CLOSED) setHello((before) => before || { has_token: true, is_closed: true });
    };
    return () => source.close();
  }, [epoch]);
  return { page, hello, isLive };
}

function useTheme() {
  const [theme, setTheme] = useState(() => localStorage.getItem("fd-router-theme") || "system");
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("fd-router-theme", theme);
  }, [theme]);
  return [theme, () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length])];
}

function Header({ hello, isLive, isPaused, onPause, onLogin, onLogout, state }) {
  const [theme, nextTheme] = useTheme();
  const router = (state && state.router) || (hello && hello.router);
  const status = !isLive ? "not connected; trying again" : isPaused ? "paused" : router && router.is_draining ? "draining" : "live";
  return html`<header>
    <h1>${(router && router.name) || "fd-router"}</h1>
    <p role="status" class=${isLive ? "good" : "bad"}>${status}</p>
    <p class="note">${router && `version ${router.version}, up ${duration(router.up_secs)}, ${Object.entries(router.policies).map(([role, policy]) => `${role} by ${policy}`).join(", ")}`}</p>
    <div class="buttons">
      <button type="button" aria-pressed=${isPaused ? "true" : "false"} onClick=${onPause}>Pause</button>
      <button type="button" onClick=${nextTheme}>Theme: ${theme}</button>
      ${hello && hello.has_token && (hello.may_change
        ? html`<button type="button" onClick=${onLogout}>Log out</button>`
        : html`<button type="button" class="main" onClick=${onLogin}>Log in</button>`)}
    </div>
  </header>`;
}

function App() {
  const [epoch, setEpoch] = useState(0);
  const [isPaused, setPaused] = useState(false);
  const [dialog, setDialog] = useState(null);
  const [told, setTold] = useState("");
  const { page, hello, isLive } = useFeed(epoch, isPaused);
  const again = () => setEpoch((number) => number + 1);
  const close = () => setDialog(null);
  const state = page.state;
  const seesAll = Boolean(hello && hello.sees_all);
  const onLogout = async () => {
    await send("POST", "logout").catch(() => null);
    again();
  };
  const onLogin = () => setDialog({ kind: "login" });
  const ask = (action, one) => setDialog({ kind: "confirm", action, one });
  return html`
    <a class="skip" href="#fleet">To the fleet</a>
    <${Header} hello=${hello} isLive=${isLive} isPaused=${isPaused} onPause=${() => setPaused(!isPaused)} onLogin=${onLogin}
      onLogout=${onLogout} state=${state} />
    <main>
      <p role="status" class="told">${told}</p>
      ${hello && !hello.has_token && html`<p class="hint">Read-only: this router has no admin token. Set access.admin-token to drain and remove instances from here.</p>`}
      ${hello && hello.is_closed && !state && html`<p>The router shows nothing without its admin token. <button type="button" class="main" onClick=${onLogin}>Log in</button></p>`}
      ${state && html`
        <${Traffic} state=${state} history=${page.history} />
        <${Fleet} state=${state} histories=${page.histories} ask=${ask} mayChange=${Boolean(hello && hello.may_change)} />
        <${Decisions} decisions=${page.decisions} unseen=${state.decisions_unseen} seesAll=${seesAll} />
        <${Troubles} troubles=${page.troubles} unseen=${state.troubles_unseen} seesAll=${seesAll} />
        <${Explain} seesAll=${seesAll} send=${send} />
        <${Keys} keys=${state.keys} />`}
    </main>
    ${dialog && dialog.kind === "login" && html`<${Login} send=${send} onClose=${close} onDone=${() => { close(); again(); }} />`}
    ${dialog && dialog.kind === "confirm" && html`<${Confirm} action=${dialog.action} one=${dialog.one} send=${send} onClose=${close}
      onDone=${(words) => { close(); setTold(words); }} />`}
  `;
}

preact.render(html`<${App} />`, document.getElementById("app"));
