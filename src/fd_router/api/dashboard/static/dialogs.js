/* The dialogs: logging in, and being asked before something changes. */

function Dialog({ label, onClose, children }) {
  const element = useRef();
  useEffect(() => {
    element.current.showModal();
  }, []);
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onClose=${onClose}>
    <h2 id="dialog-title">${label}</h2>
    ${children}
  </dialog>`;
}

function Login({ send, onDone, onClose }) {
  const [problem, setProblem] = useState("");
  const token = useRef();
  const onSubmit = async (event) => {
    event.preventDefault();
    try {
      await send("POST", "login", JSON.stringify({ token: token.current.value }));
      onDone();
    } catch (error) {
      setProblem(error.message);
      token.current.focus();
    }
  };
  return html`<${Dialog} label="Log in" onClose=${onClose}>
    <form onSubmit=${onSubmit}>
      <input type="text" autocomplete="username" value="admin" hidden />
      <label for="token">Admin token (access.admin-token)</label>
      <input id="token" ref=${token} type="password" autocomplete="current-password" required
        aria-describedby="login-problem" aria-invalid=${problem ? "true" : "false"} />
      <p id="login-problem" class="bad" role="alert">${problem}</p>
      <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button type="submit" class="main">Log in</button></div>
    </form>
  <//>`;
}

const QUESTIONS = {
  drain: (one) => `${one.key} gets no new requests until it is undrained. ${running(one)}`,
  undrain: (one) => `${one.key} gets requests again.`,
  remove: (one) => `${one.key} is forgotten. ${running(one)} Its next heartbeat brings it back, or a reload where register.yaml names it.`,
};
const TITLES = { drain: "Drain", undrain: "Undrain", remove: "Remove" };

function running(one) {
  if (!one.running) return "Nothing runs there.";
  return `${count(one.running)} ${one.running === 1 ? "request that runs there goes" : "requests that run there go"} on.`;
}

function Confirm({ action, one, send, onDone, onClose }) {
  const [problem, setProblem] = useState("");
  const onSubmit = async (event) => {
    event.preventDefault();
    const path = `instances/${encodeURIComponent(one.key)}`;
    try {
      await (action === "remove" ? send("DELETE", path) : send("POST", `${path}/${action}`));
      onDone(`${TITLES[action]}: ${one.key}: done`);
    } catch (error) {
      setProblem(error.message);
    }
  };
  return html`<${Dialog} label=${`${TITLES[action]} ${one.key}?`} onClose=${onClose}>
    <form onSubmit=${onSubmit}>
      <p>${QUESTIONS[action](one)}</p>
      <p class="bad" role="alert">${problem}</p>
      <div class="buttons"><button type="button" onClick=${onClose}>Cancel</button><button type="submit" class="main">${TITLES[action]}</button></div>
    </form>
  <//>`;
}
