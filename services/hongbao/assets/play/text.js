// The page's words.
const WORDS = {
  en: {
    title: 'Shake, win, chat', user: 'Test user', number: 'a number from 1', login: 'Log in', logout: 'Log out', chats: 'Chats', shake: 'Shake', prizes: 'Prizes',
    addUser: 'Chat with user', add: 'Add', connected: 'connected', connecting: 'connecting …', offline: 'offline', say: 'Message', send: 'Send',
    wantsFriend: 'wants to be friends', accept: 'Accept', asked: 'asked; waits for an answer', userN: (n) => `User ${n}`, official: 'Official account',
    group: 'Group', older: 'Earlier messages', sending: 'sending …', refused: (why) => `Not sent: ${why}`, nothingYet: 'Nothing here yet.', changed: 'The conversation changed.',
    recalled: 'A message was recalled.', shakeIt: 'Shake!', shakeHow: 'Shake the telephone, press the button or the space bar.', shakes: (n) => `${n} shakes`,
    lost: 'Nothing this time. Go on!', won: (what) => `You won ${what}!`, waiting: 'One moment …', noRound: 'No round is open.',
    opensAt: (when) => `The next round opens at ${when}.`, limit: 'You have won all you can for now.', claim: 'Claim', state: ['', 'won', 'to be claimed', 'on the way', 'needs an account', 'arrived', 'lapsed', 'being looked at'],
    noPrizes: 'No prizes yet. Shake!', refusedLogin: 'The login was refused', noTokens: 'This server makes no test tokens; paste one:', token: 'Token', pick: 'Choose a conversation, or add a user by number.',
  },
  zh: {
    title: '摇一摇 · 中奖 · 聊天', user: '测试用户', number: '从 1 开始的号码', login: '登录', logout: '退出', chats: '聊天', shake: '摇一摇', prizes: '奖品',
    addUser: '和用户聊天', add: '添加', connected: '已连接', connecting: '连接中……', offline: '未连接', say: '消息', send: '发送',
    wantsFriend: '想加你为好友', accept: '同意', asked: '已申请，等待对方同意', userN: (n) => `用户 ${n}`, official: '公众号',
    group: '群聊', older: '更早的消息', sending: '发送中……', refused: (why) => `未发送：${why}`, nothingYet: '这里还没有内容。', changed: '会话有变动。',
    recalled: '一条消息已撤回。', shakeIt: '摇！', shakeHow: '摇动手机，或点按钮、按空格键。', shakes: (n) => `已摇 ${n} 次`,
    lost: '这次没有中，再摇摇！', won: (what) => `恭喜你，摇到了 ${what}！`, waiting: '请稍候……', noRound: '现在没有开放的场次。',
    opensAt: (when) => `下一场 ${when} 开始。`, limit: '你暂时不能再中奖了。', claim: '领取', state: ['', '已中奖', '待领取', '发放中', '需要绑定账号', '已到账', '已过期', '核实中'],
    noPrizes: '还没有奖品，摇一摇吧！', refusedLogin: '登录被拒绝', noTokens: '此服务器不发测试令牌，请粘贴一个：', token: '令牌', pick: '选择一个会话，或按号码添加用户。',
  },
};

let language = (navigator.language || 'en').toLowerCase().startsWith('zh') ? 'zh' : 'en';

export const LANGUAGES = { en: 'English', zh: '中文' };
export const getLanguage = () => language;
export function setLanguage(to) {
  if (to in WORDS) language = to;
  document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
}

// A word, or a phrase with its parts.
export function t(key, ...parts) {
  const word = WORDS[language][key];
  return typeof word === 'function' ? word(...parts) : word;
}

export const state = (number) => WORDS[language].state[number] ?? '';

export const time = (ms) => new Date(Number(ms)).toLocaleTimeString(language === 'zh' ? 'zh-CN' : 'en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });

// Fen as money.
export const money = (fen) => `¥${(Number(fen) / 100).toFixed(2)}`;
