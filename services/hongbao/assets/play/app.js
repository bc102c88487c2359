// The page: what is shown, and what a click does. What is said to the platform is in wire.js, chat.js and shake.js.
import { KIND, Link } from './wire.js';
import { Chat, MESSAGE, TALK } from './chat.js';
import { Player, watchMotion } from './shake.js';
import { LANGUAGES, getLanguage, money, setLanguage, state, t, time } from './text.js';

const $ = (id) => document.getElementById(id);
const store = sessionStorage;
let chat, link, player, chosen = null, tab = 'chats', awards = new Map(), shaken = 0;

function item(parent, className, ...children) {
  const li = document.createElement('li');
  li.className = className;
  li.append(...children);
  parent.append(li);
  return li;
}

function span(className, words) {
  const span = document.createElement('span');
  span.className = className;
  span.textContent = words;
  return span;
}

function button(words, click) {
  const made = document.createElement('button');
  made.type = 'button';
  made.textContent = words;
  made.addEventListener('click', click);
  return made;
}

// --- words

function say() {
  for (const at of document.querySelectorAll('[data-t]')) at.textContent = t(at.dataset.t);
  $('user').placeholder = t('number');
  $('words').placeholder = t('say');
  $('words').setAttribute('aria-label', t('say'));
  $('shakes').textContent = t('shakes', shaken);
  if (chat) { $('me').textContent = t('userN', chat.user); drawLink(); drawTalks(); drawTalk(); drawAsks(); drawAwards(); }
}

for (const [code, name] of Object.entries(LANGUAGES)) $('language').append(new Option(name, code));
setLanguage(store.getItem('language') || getLanguage());
$('language').value = getLanguage();
$('language').addEventListener('change', () => {
  setLanguage($('language').value);
  store.setItem('language', getLanguage());
  link?.chat('set_profile', { language: getLanguage() === 'zh' ? 'zh-CN' : 'en' }).catch(() => {});
  say();
});

// --- login

async function token(user) {
  const pasted = $('token').value.trim() || store.getItem('token');
  if (pasted) return pasted;
  const answer = await fetch('/play/token', {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ user: String(user) }),
  });
  if (answer.status === 404 || answer.status === 403) {
    $('pasted').hidden = false;
    throw new Error(t('noTokens'));
  }
  if (!answer.ok) throw new Error((await answer.json()).error);
  return (await answer.json()).token;
}

$('login').addEventListener('submit', async (event) => {
  event.preventDefault();
  const user = $('user').value.trim();
  $('wrong').textContent = '';
  try {
    await token(user);
    if ($('token').value.trim()) store.setItem('token', $('token').value.trim());
    start(BigInt(user));
  } catch (error) {
    $('wrong').textContent = error.message;
  }
});

$('logout').addEventListener('click', () => {
  for (const key of ['user', 'token']) store.removeItem(key);
  location.reload();
});

function start(user) {
  store.setItem('user', user);
  $('login').hidden = true;
  $('play').hidden = $('logout').hidden = false;
  chat = new Chat(user, store, changed);
  player = new Player(told);
  const url = new URL('/v1/ws', location.href);
  url.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  link = new Link(url.href, chat.device, {
    token: () => token(user),
    open(login) {
      player.opened(link, login);
      if (login.chat) chat.opened(link);
      drawLink();
      loadAwards();
      link.chat('set_profile', { language: getLanguage() === 'zh' ? 'zh-CN' : 'en' }).catch(() => {});
    },
    push(push) { chat.push(push); },
    closed() { player.closed(); chat.closed(); drawLink(); },
    refused(error) {
      $('wrong').textContent = `${t('refusedLogin')}: ${error.message}`;
      $('login').hidden = false;
      $('play').hidden = true;
      store.removeItem('token');
    },
  });
  link.connect();
  say();
}

// --- what changed

function changed(what, talk, detail) {
  if (what === 'refused') {
    $('wrong').textContent = '';
    drawTalk();
    item($('messages'), 'note', t('refused', detail.reason || '')).setAttribute('role', 'alert');
    return;
  }
  // The first message has made the conversation with the person who was chosen.
  if (chosen && !chosen.id) chosen = chat.withUser(chosen.peer).id ? chat.withUser(chosen.peer) : chosen;
  if (what === 'message' && detail.kind === MESSAGE.OFFICIAL) loadAwards();
  if (what === 'friends') drawAsks();
  if (what === 'link') drawLink();
  drawTalks();
  if (!talk || talk === chosen) drawTalk();
}

function drawLink() {
  $('link').textContent = link?.open ? (chat.live ? t('connected') : t('connecting')) : t('offline');
  $('link').dataset.state = link?.open && chat.live ? 'live' : 'away';
}

function nameOf(user) {
  const profile = chat.names.get(String(user));
  if (profile?.official) return profile.name || t('official');
  return profile?.name || t('userN', user);
}

function title(talk) {
  if (talk.kind === TALK.GROUP) return talk.name || t('group');
  if (talk.kind === TALK.OFFICIAL) return talk.name || nameOf(talk.peer);
  if (talk.peer) return nameOf(talk.peer);
  const other = talk.messages.find((message) => message.sender && message.sender !== chat.user);
  return other ? nameOf(other.sender) : t('group');
}

function words(message) {
  if (message.kind === MESSAGE.RECALL || message.recalled) return t('recalled');
  if (message.kind >= MESSAGE.CHANGE) return t('changed');
  const plain = new TextDecoder().decode(message.body);
  if (message.kind !== MESSAGE.OFFICIAL || !plain.startsWith('{')) return plain;
  try { return JSON.parse(plain).text ?? plain; } catch { return plain; }
}

function drawTalks() {
  const talks = [...chat.talks.values()].filter((talk) => talk.have !== null).sort((a, b) => b.active - a.active);
  let total = 0n;
  $('talks').replaceChildren();
  for (const talk of talks) {
    total += talk.unread;
    const last = talk.messages.at(-1);
    const li = item($('talks'), talk === chosen ? 'chosen' : '', span('name', title(talk)), span('last', last ? words(last) : ''));
    if (talk.unread > 0n) li.append(span('unread', talk.unread));
    li.dataset.conversation = talk.id;
    li.tabIndex = 0;
    const choose = () => { chosen = talk; drawTalks(); drawTalk(); };
    li.addEventListener('click', choose);
    li.addEventListener('keydown', (event) => { if (event.key === 'Enter') choose(); });
  }
  $('unread').textContent = total > 0n ? total : '';
}

function drawTalk() {
  $('write').hidden = !chosen || chosen.kind === TALK.OFFICIAL;
  $('with').textContent = chosen ? title(chosen) : t('pick');
  $('messages').replaceChildren();
  if (!chosen) { $('older').hidden = true; return; }
  for (const message of chosen.messages) {
    const own = message.sender === chat.user;
    const note = message.kind >= MESSAGE.CHANGE || message.recalled;
    const className = note ? 'note' : own ? 'own' : message.kind === MESSAGE.OFFICIAL ? 'official' : 'theirs';
    const li = item($('messages'), className, words(message));
    li.dataset.seq = message.seq;
    if (!note) {
      const small = document.createElement('small');
      small.textContent = `${own || chosen.kind === TALK.PAIR ? '' : `${nameOf(message.sender)} · `}${time(message.sent_ms)}`;
      li.append(small);
    }
  }
  for (const waits of chat.waiting(chosen)) {
    const li = item($('messages'), 'own waits', waits.words);
    li.title = t('sending');
  }
  const first = chosen.messages[0]?.seq;
  $('older').hidden = !chosen.id || (first !== undefined && first <= 1n) || (first === undefined && !chosen.have);
  $('messages').scrollTop = $('messages').scrollHeight;
  if (tab === 'chats' && !document.hidden) chat.read(chosen);
}

function drawAsks() {
  const ASKED = 2, ASKS = 3;
  $('asks').replaceChildren();
  for (const friend of chat.friends) {
    if (friend.state === ASKS) {
      item($('asks'), '', span('last', `${nameOf(friend.user)} ${t('wantsFriend')}`), button(t('accept'), () => add(friend.user)));
    } else if (friend.state === ASKED) {
      item($('asks'), '', span('last', `${nameOf(friend.user)}: ${t('asked')}`));
    }
  }
}

async function add(user) {
  try {
    await chat.befriend(user);
    chosen = chat.withUser(user);
    drawTalks();
    drawTalk();
    $('words').focus();
  } catch (error) {
    item($('asks'), '', error.message).setAttribute('role', 'alert');
  }
}

$('befriend').addEventListener('submit', (event) => {
  event.preventDefault();
  const user = BigInt($('other').value.trim());
  $('other').value = '';
  add(user);
});

$('write').addEventListener('submit', (event) => {
  event.preventDefault();
  const said = $('words').value.trim();
  if (!said || !chosen) return;
  $('words').value = '';
  chat.send(chosen, said);
  drawTalk();
});

$('older').addEventListener('click', () => chat.history(chosen).catch(() => {}));

// Somebody may have asked to be friends; there is no push for that.
setInterval(() => { if (chat?.live && tab === 'chats' && !document.hidden) chat.befriended(); }, 5000);
document.addEventListener('visibilitychange', () => { if (chat && !document.hidden) drawTalk(); });

// --- tabs

for (const at of document.querySelectorAll('[data-tab]')) at.addEventListener('click', () => show(at.dataset.tab));

function show(which) {
  tab = which;
  for (const at of document.querySelectorAll('[data-tab]')) {
    at.setAttribute('aria-selected', at.dataset.tab === which);
    $(at.dataset.tab).hidden = at.dataset.tab !== which;
  }
  if (which === 'prizes') loadAwards();
  if (which === 'chats' && chat) drawTalk();
}
show('chats');

// --- shaking

function shake() {
  if (!player || tab !== 'shake') return;
  shaken += 1;
  $('shakes').textContent = t('shakes', shaken);
  player.shake();
}

$('shaker').addEventListener('click', shake);
addEventListener('keydown', (event) => {
  if (event.code === 'Space' && tab === 'shake' && event.target.tagName !== 'BUTTON' && event.target.tagName !== 'INPUT') {
    event.preventDefault();
    shake();
  }
});
watchMotion(shake);

function prize(award) {
  return award.fen > 0n ? `${award.prize_name} ${money(award.fen)}` : award.prize_name;
}

function told(what, detail) {
  const at = $('told');
  at.dataset.told = what;
  if (what === 'won') {
    at.textContent = t('won', prize(detail));
    awards.set(detail.award, detail);
    drawAwards();
  } else if (what === 'closed') {
    at.textContent = Number.isFinite(detail) && detail > 0 ? t('opensAt', time(detail)) : t('noRound');
    player.refresh().catch(() => {});
  } else at.textContent = t(what);
}

// --- prizes

async function loadAwards() {
  if (!link?.open) return;
  try {
    for (let after = '', more = true; more;) {
      const page = await link.ask(KIND.Prizes, 'PrizesRequest', { after, limit: 200 });
      for (const award of page.awards) awards.set(award.award, award);
      more = page.more && page.awards.length > 0;
      after = page.awards.at(-1)?.award ?? after;
    }
    drawAwards();
  } catch { /* shown at the next look */ }
}

function drawAwards() {
  const CLAIMABLE = 2;
  $('awards').replaceChildren();
  if (!awards.size) item($('awards'), '', t('noPrizes'));
  for (const award of [...awards.values()].reverse()) {
    const li = item($('awards'), '', span('what', prize(award)), span('when', time(award.won_ms)), span('state', state(award.state)));
    li.dataset.state = award.state;
    if (award.state !== CLAIMABLE) continue;
    li.append(button(t('claim'), async () => {
      try {
        const answer = await link.ask(KIND.Claim, 'Claim', { award: award.award });
        if (answer.award) awards.set(award.award, answer.award);
      } catch { /* pressing again is harmless */ }
      loadAwards();
    }));
  }
}

// States change without a word to the page, save by the official account's messages.
setInterval(() => { if (tab === 'prizes' && !document.hidden) loadAwards(); }, 3000);

say();
if (store.getItem('user')) start(BigInt(store.getItem('user')));
