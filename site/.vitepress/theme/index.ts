// (without the theme's fonts: those of the system)
import Theme from "vitepress/theme-without-fonts"
import "./style.css"

export default Theme
