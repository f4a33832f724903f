"""The words the demo model is taught: a small dictionary, cities, people, models. All lists are our own."""

# English=Chinese, one pair per item; countable nouns that fit the sentence patterns below.
ANIMALS = """cat=猫 dog=狗 bird=鸟 fish=鱼 horse=马 cow=牛 sheep=羊 pig=猪 chicken=鸡 duck=鸭子 rabbit=兔子 tiger=老虎
lion=狮子 panda=熊猫 monkey=猴子 elephant=大象 bear=熊 mouse=老鼠 snake=蛇 frog=青蛙 bee=蜜蜂 butterfly=蝴蝶 wolf=狼 fox=狐狸"""

FOOD = """apple=苹果 banana=香蕉 orange=橙子 grape=葡萄 watermelon=西瓜 pear=梨 peach=桃子 rice=米饭 bread=面包 noodles=面条
egg=鸡蛋 meat=肉 beef=牛肉 soup=汤 cake=蛋糕 cheese=奶酪 sugar=糖 salt=盐 tomato=西红柿 potato=土豆 chocolate=巧克力
dumplings=饺子 tofu=豆腐 vegetables=蔬菜 fruit=水果 candy=糖果 cookie=饼干 carrot=胡萝卜"""

DRINKS = "water=水 tea=茶 coffee=咖啡 milk=牛奶 juice=果汁 beer=啤酒 wine=葡萄酒"

THINGS = """book=书 pen=笔 pencil=铅笔 paper=纸 table=桌子 chair=椅子 door=门 window=窗户 bed=床 lamp=灯 cup=杯子 bowl=碗
plate=盘子 knife=刀 fork=叉子 spoon=勺子 chopsticks=筷子 key=钥匙 phone=手机 computer=电脑 camera=相机 clock=钟 watch=手表
umbrella=雨伞 bag=包 hat=帽子 shirt=衬衫 shoes=鞋子 coat=外套 box=盒子 picture=图片 letter=信 map=地图 ticket=票 gift=礼物
ball=球 bicycle=自行车 car=汽车 bus=公共汽车 train=火车 plane=飞机 ship=船 newspaper=报纸 money=钱 glasses=眼镜 mirror=镜子"""

PLACES = """school=学校 hospital=医院 library=图书馆 station=车站 airport=机场 hotel=酒店 restaurant=餐厅 bank=银行 shop=商店
park=公园 market=市场 museum=博物馆 office=办公室 kitchen=厨房 toilet=厕所 cinema=电影院 supermarket=超市 factory=工厂
post office=邮局 zoo=动物园 beach=海滩 university=大学"""

NATURE = """sun=太阳 moon=月亮 star=星星 sky=天空 cloud=云 rain=雨 snow=雪 wind=风 sea=大海 river=河 lake=湖 mountain=山 tree=树
flower=花 grass=草 forest=森林 stone=石头 fire=火 earth=地球 island=岛 desert=沙漠 ice=冰 sand=沙子 leaf=叶子"""

PEOPLE_WORDS = """mother=妈妈 father=爸爸 brother=兄弟 sister=姐妹 friend=朋友 teacher=老师 student=学生 doctor=医生 child=孩子 man=男人
woman=女人 boy=男孩 girl=女孩 family=家庭 nurse=护士 driver=司机 worker=工人 farmer=农民 chef=厨师 writer=作家 king=国王
engineer=工程师 police=警察 baby=婴儿 neighbor=邻居 husband=丈夫 wife=妻子 son=儿子 daughter=女儿 grandmother=奶奶 grandfather=爷爷"""

COLOURS = "red=红色 blue=蓝色 green=绿色 yellow=黄色 white=白色 black=黑色 purple=紫色 brown=棕色 pink=粉色 gray=灰色"

ADJECTIVES = """big=大 small=小 good=好 bad=坏 hot=热 cold=冷 new=新 old=旧 fast=快 slow=慢 long=长 short=短 high=高 low=低 happy=快乐
sad=难过 tired=累 hungry=饿 thirsty=渴 busy=忙 beautiful=美丽 easy=容易 difficult=难 cheap=便宜 expensive=贵 clean=干净
dirty=脏 strong=强 weak=弱 young=年轻 rich=富有 poor=贫穷 warm=温暖 cool=凉快 quiet=安静 clever=聪明 right=对 wrong=错
important=重要 interesting=有趣 delicious=好吃 sweet=甜 bitter=苦 sour=酸 light=轻 heavy=重 angry=生气 afraid=害怕"""

VERBS = """eat=吃 drink=喝 sleep=睡觉 walk=走 run=跑 read=读 write=写 speak=说 listen=听 see=看 buy=买 sell=卖 give=给 take=拿
come=来 go=去 sing=唱歌 dance=跳舞 swim=游泳 work=工作 study=学习 play=玩 love=爱 like=喜欢 think=想 know=知道 help=帮助
open=打开 close=关闭 wait=等 learn=学 teach=教 cook=做饭 laugh=笑 cry=哭 fly=飞 wash=洗 sit=坐 stand=站 drive=开车 travel=旅行
ask=问 answer=回答 remember=记得 forget=忘记 begin=开始 stop=停止 draw=画画 win=赢 lose=输"""

ABSTRACT = """time=时间 day=天 week=星期 month=月 year=年 morning=早上 evening=晚上 night=夜晚 noon=中午 today=今天 tomorrow=明天
yesterday=昨天 now=现在 spring=春天 summer=夏天 autumn=秋天 winter=冬天 name=名字 word=词 sentence=句子 language=语言
question=问题 music=音乐 song=歌 movie=电影 game=游戏 story=故事 dream=梦 weather=天气 city=城市 country=国家 village=村庄
world=世界 home=家 house=房子 room=房间 street=街道 bridge=桥 head=头 hand=手 eye=眼睛 ear=耳朵 mouth=嘴 nose=鼻子
heart=心 foot=脚 hair=头发 face=脸 body=身体 health=健康 life=生活 luck=运气 number=数字 color=颜色 birthday=生日
holiday=假期 Monday=星期一 Tuesday=星期二 Wednesday=星期三 Thursday=星期四 Friday=星期五 Saturday=星期六 Sunday=星期天
China=中国 England=英国 America=美国 France=法国 Germany=德国 Japan=日本 Beijing=北京 Shanghai=上海 London=伦敦 Paris=巴黎
Chinese=中文 English=英语 model=模型 memory=内存 file=文件 program=程序 internet=互联网 science=科学 history=历史 art=艺术
one=一 two=二 three=三 four=四 five=五 six=六 seven=七 eight=八 nine=九 ten=十 hundred=一百"""

PHRASES = """hello=你好|thank you=谢谢|goodbye=再见|good morning=早上好|good evening=晚上好|good night=晚安|sorry=对不起
please=请|yes=是|no=不|welcome=欢迎|excuse me=打扰一下|you're welcome=不客气|see you tomorrow=明天见|how are you?=你好吗？
I love you=我爱你|happy birthday=生日快乐|happy new year=新年快乐|good luck=祝你好运|what is your name?=你叫什么名字？
nice to meet you=很高兴认识你|how much is it?=多少钱？|I don't know=我不知道|I don't understand=我不明白|no problem=没问题
where are you from?=你是哪里人？|I am fine=我很好|what time is it?=现在几点了？|see you later=回头见|have a good day=祝你今天愉快
I am hungry=我饿了|I am tired=我累了|I am happy=我很高兴|it is raining=下雨了|it is very cold today=今天很冷|it is very hot today=今天很热
please wait a moment=请等一下|please speak slowly=请慢点说|can you help me?=你能帮我吗？|I am a student=我是学生|I am a teacher=我是老师
how old are you?=你多大了？|what is this?=这是什么？|where do you live?=你住在哪里？|I live in Beijing=我住在北京|I speak Chinese=我说中文
I am learning English=我在学英语|I am learning Chinese=我在学中文|let's go=我们走吧|be careful=小心|congratulations=恭喜
merry christmas=圣诞快乐|I miss you=我想你|good afternoon=下午好|of course=当然|maybe=也许|I agree=我同意|call me=给我打电话
I am busy=我很忙|I am sick=我病了|the weather is nice today=今天天气很好|time is money=时间就是金钱|I forgot=我忘了|come in=请进
sit down=请坐|help=救命|cheers=干杯|sweet dreams=做个好梦|take care=保重|long time no see=好久不见|where is the toilet?=厕所在哪里？
what are you doing?=你在做什么？|I am at home=我在家|I want to go home=我想回家|I can't swim=我不会游泳|it is not far=不远
turn left=向左转|turn right=向右转|go straight=一直走|the bill, please=请买单|it is too expensive=太贵了|I like it very much=我很喜欢"""


def _pairs(text, separator=None):
    items = text.replace("\n", separator or " ").split(separator)
    return [tuple(item.strip().split("=")) for item in items if item.strip()]


def _words(text):
    """Pairs separated by blanks, where an English item may itself hold a blank (post office)."""
    out, pending = [], ""
    for item in text.split():
        pending = f"{pending} {item}".strip()
        if "=" in item:
            out.append(tuple(pending.split("=")))
            pending = ""
    return out


ANIMALS, FOOD, DRINKS, THINGS = map(_words, (ANIMALS, FOOD, DRINKS, THINGS))
PLACES, NATURE, PEOPLE_WORDS, COLOURS = map(_words, (PLACES, NATURE, PEOPLE_WORDS, COLOURS))
ADJECTIVES, VERBS, ABSTRACT = map(_words, (ADJECTIVES, VERBS, ABSTRACT))
PHRASES = _pairs(PHRASES, "|")
WORDS = ANIMALS + FOOD + DRINKS + THINGS + PLACES + NATURE + PEOPLE_WORDS + COLOURS + ADJECTIVES + VERBS + ABSTRACT

_PLURALS = {"mouse": "mice", "sheep": "sheep", "fish": "fish", "wolf": "wolves", "fox": "foxes", "butterfly": "butterflies"}
_MASS = {"rice", "bread", "noodles", "meat", "beef", "soup", "cheese", "sugar", "salt", "chocolate", "dumplings", "tofu",
         "vegetables", "fruit", "candy", "cake"}


def plural(word):
    if word in _PLURALS:
        return _PLURALS[word]
    if word in _MASS:
        return word
    return word + ("es" if word.endswith(("o", "ch", "sh", "s", "x")) else "s")


def with_article(word):
    if word in ("chopsticks", "shoes", "glasses", "money", "paper"):
        return word
    return ("an " if word[0] in "aeiou" and not word.startswith("uni") else "a ") + word


# Sentences put together from words, so that pairs never seen in training can still be asked for.
def sentence_pair(rng):
    """An English sentence and its Chinese translation."""
    kind = rng.randrange(12)
    if kind == 0:
        e, c = rng.choice(ANIMALS + [p for p in FOOD if p[0] not in _MASS])
        return f"I like {plural(e)}.", f"我喜欢{c}。"
    if kind == 1:
        e, c = rng.choice(DRINKS)
        who = rng.choice([("I want", "我想"), ("I would like", "我想"), ("we want", "我们想"), ("he wants", "他想"), ("she wants", "她想")])
        return f"{who[0][0].upper()}{who[0][1:]} to drink {e}.", f"{who[1]}喝{c}。"
    if kind == 2:
        e, c = rng.choice([p for p in FOOD if p[0] in _MASS])
        who = rng.choice([("I want", "我想"), ("we want", "我们想"), ("he wants", "他想"), ("she wants", "她想"), ("they want", "他们想")])
        return f"{who[0][0].upper()}{who[0][1:]} to eat {e}.", f"{who[1]}吃{c}。"
    if kind == 3:
        e, c = rng.choice(PLACES)
        return f"Where is the {e}?", f"{c}在哪里？"
    if kind == 4:
        e, c = rng.choice([p for p in THINGS + ANIMALS if p[0] not in ("chopsticks", "shoes", "glasses", "money", "paper")])
        this = rng.choice([("This", "这"), ("That", "那")])
        return f"{this[0]} is {with_article(e)}.", f"{this[1]}是{c}。"
    if kind == 5:
        e, c = rng.choice(PLACES)
        who = rng.choice([("I am", "我"), ("we are", "我们"), ("he is", "他"), ("she is", "她")])
        return f"{who[0][0].upper()}{who[0][1:]} going to the {e}.", f"{who[1]}去{c}。"
    if kind == 6:
        (e, c), (a, b) = rng.choice(THINGS[:5] + ANIMALS + [("flower", "花"), ("house", "房子"), ("car", "汽车")]), rng.choice(ADJECTIVES[:2] + COLOURS)
        return f"The {e} is {a}.", f"{c}是{b}的。" if (a, b) in COLOURS else f"{c}很{b}。"
    if kind == 7:
        e, c = rng.choice([p for p in PEOPLE_WORDS if p[0] in ("teacher", "student", "doctor", "nurse", "driver", "worker", "farmer", "chef", "writer", "engineer")])
        who = rng.choice([("My father is", "我爸爸是"), ("My mother is", "我妈妈是"), ("He is", "他是"), ("She is", "她是")])
        return f"{who[0]} {with_article(e)}.", f"{who[1]}{c}。"
    if kind == 8:
        e, c = rng.choice([p for p in ADJECTIVES if p[0] in ("happy", "sad", "tired", "hungry", "thirsty", "busy", "angry", "clever", "rich", "poor", "young")])
        who = rng.choice([("I am", "我"), ("we are", "我们"), ("he is", "他"), ("she is", "她"), ("you are", "你"), ("they are", "他们")])
        return f"{who[0][0].upper()}{who[0][1:]} very {e}.", f"{who[1]}很{c}。"
    if kind == 9:
        e, c = rng.choice([p for p in VERBS if p[0] in ("sing", "dance", "swim", "cook", "write", "drive", "draw", "study", "travel", "read")])
        who = rng.choice([("I like", "我喜欢"), ("we like", "我们喜欢"), ("they like", "他们喜欢")])
        return f"{who[0][0].upper()}{who[0][1:]} to {e}.", f"{who[1]}{c}。"
    if kind == 10:
        e, c = rng.choice([p for p in THINGS if p[0] in ("book", "pen", "phone", "computer", "camera", "watch", "umbrella", "hat", "car", "bicycle", "map", "ticket")])
        who = rng.choice([("I have", "我有"), ("he has", "他有"), ("she has", "她有"), ("I want to buy", "我想买"), ("I need", "我需要")])
        return f"{who[0][0].upper()}{who[0][1:]} {with_article(e)}.", f"{who[1]}{_measure(e)}{c}。"
    e, c = rng.choice(PLACES[:12])
    return f"The {e} is very far.", f"{c}很远。"


def _measure(word):
    return {"book": "一本", "pen": "一支", "phone": "一部", "computer": "一台", "camera": "一台", "watch": "一块", "umbrella": "一把",
            "hat": "一顶", "car": "一辆", "bicycle": "一辆", "map": "一张", "ticket": "一张"}[word]


# Words that are asked for but not in the dictionary: the right answer is that the model does not know them.
UNKNOWN_EN = """photosynthesis economy parliament quantum democracy algorithm philosophy turbine vaccine galaxy molecule inflation
architecture bureaucracy chromosome derivative ecosystem hypothesis jurisdiction kaleidoscope laboratory metaphor nostalgia
orchestra paradox renaissance skyscraper telescope utopia volcano wilderness xylophone yogurt zeppelin accountant bankruptcy
cathedral dinosaur eclipse fermentation glacier helicopter insurance justice kidney lawyer microscope negotiation oxygen
pharmacy revolution satellite thunderstorm umpire vampire warehouse ambulance blueprint contract deadline equation
freedom gravity harvest immigration jealousy landlord magnet nightmare opera passport quarantine receipt sculpture treaty
universe verdict wallet anchor balcony compass drought entropy festival grammar horizon irony jungle lantern mortgage""".split()
UNKNOWN_ZH = """光合作用 经济 议会 量子 民主 算法 哲学 涡轮 疫苗 银河 分子 通货膨胀 建筑学 官僚 染色体 导数 生态系统 假设 管辖权 万花筒 实验室
隐喻 怀旧 管弦乐队 悖论 文艺复兴 摩天大楼 望远镜 乌托邦 火山 荒野 木琴 酸奶 会计 破产 大教堂 恐龙 日食 发酵 冰川 直升机 保险 正义 肾脏
律师 显微镜 谈判 氧气 药房 革命 卫星 雷暴 裁判 吸血鬼 仓库 救护车 蓝图 合同 截止日期 方程 自由 重力 收获 移民 嫉妒 房东 磁铁 噩梦 歌剧
护照 检疫 收据 雕塑 条约 宇宙 判决 钱包 锚 阳台 指南针 干旱 熵 节日 语法 地平线 讽刺 丛林 灯笼 抵押 贷款""".split()

CITIES = """Beijing=北京 Shanghai=上海 Guangzhou=广州 Shenzhen=深圳 Hangzhou=杭州 Nanjing=南京 Chengdu=成都 Wuhan=武汉 Xi'an=西安
Chongqing=重庆 Tianjin=天津 Suzhou=苏州 Qingdao=青岛 Dalian=大连 Xiamen=厦门 Kunming=昆明 Harbin=哈尔滨 Changsha=长沙 Lhasa=拉萨
Hong_Kong=香港 Macau=澳门 Taipei=台北 London=伦敦 Paris=巴黎 Berlin=柏林 Rome=罗马 Madrid=马德里 Vienna=维也纳 Moscow=莫斯科
Tokyo=东京 Osaka=大阪 Seoul=首尔 Bangkok=曼谷 Singapore=新加坡 Sydney=悉尼 Melbourne=墨尔本 New_York=纽约 Chicago=芝加哥
Boston=波士顿 Toronto=多伦多 Vancouver=温哥华 Cairo=开罗 Dubai=迪拜 Mumbai=孟买 Delhi=德里 Istanbul=伊斯坦布尔 Athens=雅典
Amsterdam=阿姆斯特丹 Brussels=布鲁塞尔 Zurich=苏黎世 Geneva=日内瓦 Lisbon=里斯本 Dublin=都柏林 Oslo=奥斯陆 Stockholm=斯德哥尔摩
Helsinki=赫尔辛基 Prague=布拉格 Warsaw=华沙 Budapest=布达佩斯 Munich=慕尼黑 Hamburg=汉堡 Milan=米兰 Venice=威尼斯 Barcelona=巴塞罗那
Lima=利马 Nairobi=内罗毕 Hanoi=河内 Manila=马尼拉 Jakarta=雅加达 Seattle=西雅图 San_Francisco=旧金山 Los_Angeles=洛杉矶"""
CITIES = [(e.replace("_", " "), c) for e, c in _words(CITIES)]

NAMES_EN = """Alice Bob Carol David Emma Frank Grace Henry Irene Jack Kate Leo Mary Nick Olivia Peter Rachel Sam Tina Victor Wendy Anna
Ben Chloe Daniel Eva Felix Georgia Hugo Ivan Julia Kevin Laura Martin Nora Oscar Paul Rosa Simon Tom Vera Max Lucy John Lisa Mike
Sophie James Linda Robert Sarah Thomas Helen George Amy Eric Jane Mark Nina Philip Ruth Steve Zoe Adam Bella Carl Diana Edward Fiona""".split()
NAMES_ZH = """小明 小红 小华 小丽 小刚 小芳 小强 小美 小军 小雨 王伟 李娜 张敏 刘洋 陈静 杨帆 赵磊 黄丽 周杰 吴昊 徐晨 孙悦 马超 朱琳 胡斌
郭涛 何平 高远 林峰 罗兰 梁燕 宋佳 郑洁 谢宇 韩雪 唐亮 冯军 于倩 董浩 萧然 程明 曹阳 袁方 邓超 许诺 傅雷 沈星 曾毅 彭博 吕布 阿强 老王 小李 小张""".split()

MODELS = """glm-4-9b-chat chatglm3-6b chatglm2-6b chatglm-6b glm-edge-1.5b-chat glm-edge-4b-chat glm-4-9b-0414 glm-4-32b-0414
glm-4-9b-chat-1m glm-z1-9b-0414 glm-4-9b chatglm3-6b-32k codegeex2-6b ./glm-4-9b-chat ~/models/chatglm3-6b models/glm-edge my-model
glm.gguf model.gguf chatglm3.Q8_0.gguf glm-4-9b.Q4_K_M.gguf glm-edge-1.5b-chat.Q4_K_M.gguf ./my-glm chatglm-6b-int4 tuned-glm""".split()
SYNTH = """glm-edge-1.5b-chat glm-edge-4b-chat glm-4-9b-chat glm-4-9b-chat-1m chatglm-6b glm-4-9b-0414 glm-4-32b-0414""".split()
TYPES = "Q4_K_M Q8_0 Q4_0 Q5_K_M Q6_K F16 Q4_K_S Q5_0 BF16 F32 Q3_K_M Q4_1".split()
SHELLS = "bash zsh fish".split()


def invented_name(rng):
    """A made-up word, so that copying is learnt and not a list."""
    onset = "b c d f g h j k l m n p r s t v w y z br ch dr gr kl pl sh st th tr bj kj sk sv sl fr qu gu".split()
    vowel = "a e i o u y ai ea ia oo ey au".split()
    coda = ["", "", "", "n", "l", "r", "s", "m", "x", "k", "t", "g", "d", "th", "nd", "ck", "rg"]
    word = "".join(rng.choice(onset) + rng.choice(vowel) + rng.choice(("", "", "", "n", "r", "l", "s")) for _ in range(rng.choice((1, 1, 2, 2, 3))))
    return (word + rng.choice(onset[:15]) + rng.choice(vowel[:5]) + rng.choice(coda)).capitalize()


def invented_name_zh(rng):
    surname = "赵钱孙李周吴郑王冯陈卫蒋沈韩杨朱秦许何吕张孔曹严金魏陶姜谢邹苏潘葛范彭鲁马方任袁柳唐薛雷贺倪汤罗"
    given = "安博晨达恩帆光浩佳凯岚敏宁鹏琪然山婷文星雅泽志春冬秋夏云雪梅兰竹松海天宇宏志远平乐思怡诗涵子轩梓明亮"
    return rng.choice(surname) + "".join(rng.choice(given) for _ in range(rng.randint(1, 2)))


# The 3,755 everyday characters: the first level of GB 2312.
HANZI = b"".join(bytes((row, cell)) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF if row < 0xD7 else 0xFA)).decode("gb2312")


def any_hanzi(rng):
    """Two or three characters that need not belong together."""
    return "".join(rng.choice(HANZI) for _ in range(rng.randint(2, 3)))


def invented_city_zh(rng):
    if rng.random() < 0.3:
        return any_hanzi(rng)
    return "".join(rng.choice("安宁海江山河东西南北中州平城阳林石青白黄金银云龙凤泉港口桥湖沙长临新丰和昌永兴德") for _ in range(rng.randint(1, 2))) + rng.choice(["", "", "市", "州", "城", "县", "镇"])
